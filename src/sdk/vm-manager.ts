// The orchestrator under the facade, for those who build their own facade.

export { VmManager } from "../vm/vm-manager.js";
