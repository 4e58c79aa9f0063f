// The two-step form, a disk that survives stop and start, and a VM found again by its id.

import { isSmolVMError, SmolVM } from "smolvm";

const vm = new SmolVM({ memSizeMib: 256, network: "none", envVars: { GREETING: "hello" } });
try {
  await vm.run("true");
} catch (error) {
  // Nothing exists before start(), and the error says so.
  if (!isSmolVMError(error, "INVALID_STATE")) throw error;
  console.log(`before start(): ${error.message}`);
}
await vm.start();
await vm.run('echo "$GREETING, disk" > /root/note', { check: true });
await vm.stop();

// Any other program of this user can do this, as long as it uses the same state directory.
const again = await SmolVM.fromId(vm.vmId);
await again.start();
const { output } = await again.run("cat /root/note", { check: true });
console.log(`after stop and start: ${output}`);

// A handle from fromId() never deletes the VM by itself.
await again.delete();
console.log(`left: ${(await SmolVM.list()).length} VMs`);
