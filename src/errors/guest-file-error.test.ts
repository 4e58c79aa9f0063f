import { expect, test } from "vitest";
import { ERRNO_CODES, errnoCode } from "./errno-codes.js";
import { GuestFileError } from "./guest-file-error.js";
import { isSmolVMError } from "./smolvm-error.js";

test("has the fields of Node.js and the message of ours", () => {
  const error = new GuestFileError("ENOENT", { syscall: "open", path: "/x\n" });
  expect(error).toMatchObject({ code: "ENOENT", errno: -2, syscall: "open", path: "/x\n", exitStatus: 66 });
  expect(error.message).toBe('Cannot open "/x\\n" in the guest: no such file or directory (ENOENT)');
  expect(error.details).toEqual({ errno: -2, syscall: "open", path: "/x\n" });
  expect(isSmolVMError(error, "ENOENT") && !("dest" in error) && error.name === "GuestFileError").toBe(true);
});

test("names both paths, and what more there is to say", () => {
  const error = new GuestFileError("EXDEV", { syscall: "rename", path: "/a", dest: "/b", more: "so there" });
  expect([error.dest, error.details.dest]).toEqual(["/b", "/b"]);
  expect(error.message).toContain('"/a" -> "/b"');
  expect(error.message).toMatch(/; so there$/);
});

test("the numbers are Linux's, each once", () => {
  const numbers = Object.values(ERRNO_CODES).map(({ number }) => number);
  expect(new Set(numbers).size).toBe(numbers.length);
  expect([ERRNO_CODES.EDQUOT.number, ERRNO_CODES.ENOTEMPTY.number, ERRNO_CODES.EOPNOTSUPP.number]).toEqual([
    122, 39, 95,
  ]);
});

test.each(["EWHATEVER", "", "constructor", "INVALID_CONFIG"])("error number %s of a guest is EIO", (name) => {
  expect(errnoCode(name)).toBe("EIO");
});
