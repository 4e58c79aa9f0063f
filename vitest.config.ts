import { defineConfig } from "vitest/config";

// Two groups: `unit` needs nothing but Node; `vm` boots real microVMs, one file at a time (two cores).
export default defineConfig({
  test: {
    projects: [
      {
        test: { name: "unit", include: ["src/**/*.test.ts"], testTimeout: 20_000 },
      },
      {
        test: {
          name: "vm",
          include: ["test/**/*.test.ts"],
          fileParallelism: false,
          testTimeout: 120_000,
          hookTimeout: 600_000,
        },
      },
    ],
  },
});
