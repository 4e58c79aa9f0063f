// What the guest refused, as the error of the caller's own operation.

import { errnoCode } from "../../errors/errno-codes.js";
import { GuestFileError } from "../../errors/guest-file-error.js";
import { GuestRefusal } from "../guest-refusal.js";
import { type GuestPath, shown } from "./guest-path.js";

/** An operation as its caller sees it. */
export interface FileOperation {
  /** Its name in Node.js's errors, e.g. `"open"`. */
  readonly syscall: string;
  readonly path: GuestPath;
  readonly dest?: GuestPath | undefined;
}

/** A refusal of the guest as a {@link GuestFileError}; every other error as it is. An unknown error number is `EIO`. */
export function fileFailure(error: unknown, { syscall, path, dest }: FileOperation): unknown {
  if (!(error instanceof GuestRefusal)) return error;
  const code = errnoCode(error.errno);
  const failed = {
    syscall,
    path: shown(path),
    dest: dest === undefined ? undefined : shown(dest),
    more: code === error.errno ? undefined : `the guest says ${JSON.stringify(error.errno)}`,
  };
  return new GuestFileError(code, failed, error);
}
