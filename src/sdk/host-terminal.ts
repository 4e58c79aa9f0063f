// Programs on this program's terminal, for the command line; not part of the public face.

export { runAttached, showOutputAsItIs } from "../vm/host-terminal.js";
