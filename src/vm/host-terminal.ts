// Programs on this program's terminal, for rooms that may not know the host.

export { runAttached, showOutputAsItIs } from "../host/run-attached.js";
