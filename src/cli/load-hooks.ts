// Hooks of the user's own for commands of the command line: a module named by SMOLVM_HOOKS.

import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { invalidConfig } from "../errors/invalid-config.js";
import type { CommandHooks } from "../index.js";
import type { Sdk } from "./command.js";

const VARIABLE = "SMOLVM_HOOKS";

/**
 * Registers the hooks that the module exports as `hooks`, for every VM that this program runs a command in.
 *
 * @throws {INVALID_CONFIG} when there is no such module, or it exports no hooks: commands that were to be watched do not
 *   run unwatched.
 */
export async function withHooks(sdk: Sdk, env: Readonly<Record<string, string | undefined>>): Promise<Sdk> {
  const path = env[VARIABLE];
  if (path === undefined || path === "") return sdk;
  const module = (await import(pathToFileURL(resolve(path)).href).catch((error: unknown) => {
    throw refused(path, `a module that can be loaded (${error instanceof Error ? error.message : String(error)})`);
  })) as { readonly hooks?: CommandHooks };
  if (module.hooks === undefined) throw refused(path, "a module that exports `hooks`");
  sdk.SmolVM.use(module.hooks);
  return sdk;
}

function refused(path: string, expected: string): Error {
  return invalidConfig({ field: VARIABLE, value: path, expected });
}
