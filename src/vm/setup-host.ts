// The host's set-up, for rooms that may not know the host.

export { runSetup as setupHost, type SetupOptions, type SetupReport } from "../host/setup.js";
