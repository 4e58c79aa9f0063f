import { createHash } from "node:crypto";
import { chmod, mkdir, readdir, rename, rm, stat, symlink, truncate, utimes, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import type { WaitOptions } from "../base/deadline.js";
import { SmolVMError } from "../errors/smolvm-error.js";
import { memoryLock } from "./fixtures/memory-lock.js";
import { scratchDirectory } from "./fixtures/scratch.js";
import { produceTiny, TINY_MEMORY_BYTES } from "./fixtures/tiny-template.js";
import type { ProduceTemplate, Template, TemplateDamage } from "./template-store.js";
import { TemplateStore } from "./template-store.js";

const KEY_TEXT = "debian 2 vCPUs 512 MiB";
const FACTS = { image: "debian", imageDigest: "d".repeat(64), vcpuCount: "2", memSizeMib: "512" };

let cacheDir: string;
let store: TemplateStore;
let damages: TemplateDamage[];
let isInUse: (directory: string) => boolean;
const withLock = memoryLock();

function openStore(programVersion = "1.0.0"): TemplateStore {
  return new TemplateStore({ cacheDir, programVersion, withLock });
}

function options(wait: WaitOptions = {}) {
  return {
    ...wait,
    isInUse: (path: string) => isInUse(path),
    onDamaged: (damage: TemplateDamage) => damages.push(damage),
  };
}

beforeEach(async () => {
  cacheDir = join(await scratchDirectory(), "cache");
  store = openStore();
  damages = [];
  isInUse = () => false;
});

function make(produce: ProduceTemplate = produceTiny(), keyText = KEY_TEXT): Promise<Template> {
  return store.make(keyText, FACTS, produce, options());
}

/** Entries of the templates' and of the staging directory. */
async function left(): Promise<string[]> {
  const list = (name: string) => readdir(join(cacheDir, name)).catch(() => []);
  return [...(await list("templates")), ...(await list("staging"))];
}

describe("making", () => {
  test("publishes three files below the key, and finds them from then on", async () => {
    expect(await store.find(KEY_TEXT, options())).toBeUndefined();
    const template = await make();
    const key = createHash("sha256").update(KEY_TEXT).digest("hex");
    const directory = join(cacheDir, "templates", key);
    expect(template).toEqual({
      key,
      directory,
      memoryPath: join(directory, "memory"),
      devicesPath: join(directory, "devices"),
      diskPath: join(directory, "disk.qcow2"),
      facts: FACTS,
    });
    expect(await store.find(KEY_TEXT, options())).toEqual(template);
    const files = ["devices", "disk.qcow2", "manifest.json", "memory", "verified-1.0.0.json"];
    expect((await readdir(directory)).sort()).toEqual(files);
    expect(await left()).toEqual([key]);
    expect(damages).toEqual([]);
  });

  test("leaves files that are read-only, but for the memory, which QEMU 7.2 opens for writing; for this user alone", async () => {
    const { directory, memoryPath, devicesPath, diskPath } = await make();
    const modes = [memoryPath, devicesPath, diskPath, join(directory, ".."), join(directory, "manifest.json")].map(
      async (path) => (await stat(path)).mode & 0o777,
    );
    expect(await Promise.all(modes)).toEqual([0o600, 0o444, 0o444, 0o700, 0o444]);
  });

  test("happens once, for many who want it at the same time", async () => {
    const stores = [store, openStore(), openStore()];
    let makers = 0;
    const produce: ProduceTemplate = async (directory) => {
      makers += 1;
      await produceTiny(`maker ${makers}`)(directory);
    };
    const made = await Promise.all(stores.map((one) => one.make(KEY_TEXT, FACTS, produce, options())));
    expect(makers).toBe(1);
    expect(new Set(made.map(({ directory }) => directory)).size).toBe(1);
  });

  test("passes on how its maker failed, and leaves nothing", async () => {
    const failure = new SmolVMError("BOOT_FAILED", "Cannot boot");
    const produce: ProduceTemplate = async (directory) => {
      await produceTiny()(directory);
      throw failure;
    };
    await expect(make(produce)).rejects.toBe(failure);
    expect(await left()).toEqual([]);
    await make();
  });

  test("leaves nothing when it is aborted meanwhile", async () => {
    const abort = new AbortController();
    const produce: ProduceTemplate = async (directory) => {
      await produceTiny()(directory);
      abort.abort();
    };
    const making = store.make(KEY_TEXT, FACTS, produce, options({ signal: abort.signal }));
    await expect(making).rejects.toMatchObject({ code: "ABORTED" });
    expect(await left()).toEqual([]);
  });

  const wrong: Record<string, ProduceTemplate> = {
    "one file less": async (directory) => rm(join(directory, "devices")),
    "one more": async (directory) => writeFile(join(directory, "qmp.log"), "x"),
    "an empty file": async (directory) => truncate(join(directory, "devices"), 0),
    "a directory for a file": async (directory) => {
      await rm(join(directory, "devices"));
      await mkdir(join(directory, "devices"));
    },
    "a link for a file": async (directory) => {
      await rename(join(directory, "devices"), join(directory, "../elsewhere"));
      await symlink("../elsewhere", join(directory, "devices"));
    },
  };
  test.each(Object.keys(wrong))("refuses %s", async (name) => {
    const produce: ProduceTemplate = async (directory) => {
      await produceTiny()(directory);
      await wrong[name]?.(directory);
    };
    await expect(make(produce)).rejects.toMatchObject({ code: "INTERNAL" });
    expect(await left()).toEqual([]);
  });

  test("waits for the lock of this template alone, and no longer than it was told", async () => {
    const asked: [string, number | undefined][] = [];
    const busy = new SmolVMError("BUSY", "Lock taken");
    const locked = new TemplateStore({
      cacheDir,
      programVersion: "1.0.0",
      withLock: (key, _body, wait) => {
        asked.push([key, wait.timeoutMs]);
        return Promise.reject(busy);
      },
    });
    await expect(locked.make(KEY_TEXT, FACTS, produceTiny(), options({ timeoutMs: 500 }))).rejects.toBe(busy);
    await expect(locked.make("other", FACTS, produceTiny(), options({ timeoutMs: 500 }))).rejects.toBe(busy);
    expect(new Set(asked.map(([key]) => key)).size).toBe(2);
    for (const [, limitMs] of asked) expect(limitMs).toBeLessThanOrEqual(500);
  });

  test("removes what killed makers left", async () => {
    await mkdir(join(cacheDir, "staging/99999999-0123456789abcdef-1/template"), { recursive: true });
    const { key } = await make();
    expect(await left()).toEqual([key]);
  });
});

test.each(["", "../../etc/passwd", "a\0b\nc", "-append=\"x, y\" 'z'", "Grüße 🚀", "x".repeat(100_000)])(
  "any text is a key: %j",
  async (keyText) => {
    const template = await make(produceTiny(), keyText);
    expect(basename(template.directory)).toMatch(/^[0-9a-f]{64}$/);
    expect(await store.find(keyText, options())).toEqual(template);
    expect(await store.find(`${keyText} `, options())).toBeUndefined();
  },
);

describe("a damaged template", () => {
  /** Changes a file's content, with its size and time of writing as they were. */
  async function alter(path: string): Promise<void> {
    const { atime, mtime, size } = await stat(path);
    await chmod(path, 0o644);
    await writeFile(path, Buffer.alloc(size, "x"));
    await utimes(path, atime, mtime);
  }
  const damage: Record<string, (template: Template) => Promise<void>> = {
    "memory truncated": ({ memoryPath }) => truncate(memoryPath, TINY_MEMORY_BYTES - 4096),
    "memory altered": ({ memoryPath }) => alter(memoryPath),
    "memory missing": ({ memoryPath }) => rm(memoryPath),
    "devices altered": ({ devicesPath }) => alter(devicesPath),
    "devices missing": ({ devicesPath }) => rm(devicesPath),
    "disk altered": ({ diskPath }) => alter(diskPath),
    "disk missing": ({ diskPath }) => rm(diskPath),
    "no manifest": ({ directory }) => rm(join(directory, "manifest.json")),
    "no sense in its manifest": async ({ directory }) => {
      await rm(join(directory, "manifest.json"));
      await writeFile(join(directory, "manifest.json"), "{");
    },
    "a manifest of other files": async ({ directory }) => {
      await rm(join(directory, "manifest.json"));
      await writeFile(join(directory, "manifest.json"), '{"format":1,"facts":{},"artefacts":[]}');
    },
  };

  test.each(Object.keys(damage))("with %s: is removed with the reason told, and made anew", async (name) => {
    const template = await make();
    await damage[name]?.(template);
    expect(await store.find(KEY_TEXT, options())).toBeUndefined();
    const { key, directory } = template;
    expect(damages).toEqual([{ key, directory, reason: expect.stringMatching(/./), isRemoved: true }]);
    expect(await left()).toEqual([]);
    await make();
    expect(await store.find(KEY_TEXT, options())).toEqual(template);
    expect(damages).toHaveLength(1);
  });

  test("is named with what is wrong", async () => {
    const { memoryPath } = await make();
    await truncate(memoryPath, 4096);
    await store.find(KEY_TEXT, options());
    expect(damages[0]?.reason).toContain(memoryPath);
    expect(damages[0]?.reason).toContain(`is 4096, recorded was ${TINY_MEMORY_BYTES}`);
  });

  test("that a VM uses stays where it is: refused, and not made anew", async () => {
    const { directory, devicesPath, memoryPath } = await make();
    await rm(devicesPath);
    isInUse = (path) => path === directory;
    expect(await store.find(KEY_TEXT, options())).toBeUndefined();
    let isProduced = false;
    const making = make(async () => {
      isProduced = true;
    });
    await expect(making).rejects.toMatchObject({ code: "IMAGE_FAILED", details: { path: directory } });
    expect(isProduced).toBe(false);
    expect(damages.map(({ isRemoved }) => isRemoved)).toEqual([false, false]);
    expect((await stat(memoryPath)).size).toBe(TINY_MEMORY_BYTES);
  });

  test("that another process has made anew by the time its lock is free is found, not removed", async () => {
    const { devicesPath } = await make();
    await rm(devicesPath);
    const slow = new TemplateStore({
      cacheDir,
      programVersion: "1.0.0",
      withLock: async (key, body, wait) => {
        await make(produceTiny("second"));
        return withLock(key, body, wait);
      },
    });
    expect(await slow.find(KEY_TEXT, options())).toMatchObject({ devicesPath });
    expect(damages).toHaveLength(1); // That of the one who made it anew.
  });

  test("is not what a wait that ended early means", async () => {
    const template = await make();
    const abort = new AbortController();
    abort.abort();
    const other = openStore("2.0.0"); // It has not verified the template yet.
    await expect(other.find(KEY_TEXT, options({ signal: abort.signal }))).rejects.toMatchObject({ code: "ABORTED" });
    expect(damages).toEqual([]);
    expect(await other.find(KEY_TEXT, options())).toEqual(template);
  });
});

test("the list says what a template is made of and counts its holes as nothing", async () => {
  const { key, directory } = await make();
  await make(produceTiny("own"), "own files");
  const own = (await store.list()).find((template) => template.key !== key);
  await rm(join(own?.directory ?? "", "manifest.json"));
  const templates = await store.list();
  const listed = templates.find((template) => template.key === key);
  expect(templates).toHaveLength(2);
  expect(listed).toMatchObject({
    key,
    directory,
    image: { name: "debian", digest: FACTS.imageDigest },
    facts: FACTS,
    createdAt: (await stat(join(directory, "manifest.json"))).mtime.toISOString(),
  });
  expect(listed?.allocatedBytes).toBeGreaterThan(0);
  expect(listed?.allocatedBytes).toBeLessThan(TINY_MEMORY_BYTES / 8);
  const damaged = templates.find((template) => template.key !== key);
  expect(damaged).toMatchObject({ image: null, facts: {} });
});

test("a template of the user's own files has no image", async () => {
  await store.make(KEY_TEXT, { image: "", imageDigest: "" }, produceTiny(), options());
  expect(await store.list()).toMatchObject([{ image: null }]);
});
