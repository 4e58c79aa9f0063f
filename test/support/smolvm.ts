// The built package, as a user imports it: its helper programs are found beside the JavaScript in dist, not beside src.
// The types come from src, so that checking them needs no build.

import type * as Backends from "../../src/backends/registry.js";
import type * as Deadlines from "../../src/base/deadline.js";
import type * as Connections from "../../src/guest/connection.js";
import type * as Paths from "../../src/host/paths.js";
import type * as Identities from "../../src/host/process-identity.js";
import type * as Api from "../../src/index.js";

export type * from "../../src/index.js";
/** A handle, where the class itself is not needed. */
export type Vm = Api.SmolVM;

const built = (path: string) => import(new URL(`../../dist/${path}`, import.meta.url).href);

const api = (await built("index.js")) as typeof Api;
export const { SmolVM, VmManager, SmolVMError, isSmolVMError, reconcile } = api;
export const { listTemplates, pruneImages, removeImage } = api;
export const { hostPaths } = (await built("host/paths.js")) as typeof Paths;
export const { identifyProcess } = (await built("host/process-identity.js")) as typeof Identities;
export const { backendFor, BACKEND_NAMES } = (await built("backends/registry.js")) as typeof Backends;
export const { Deadline } = (await built("base/deadline.js")) as typeof Deadlines;
export const { GuestConnection } = (await built("guest/connection.js")) as typeof Connections;
