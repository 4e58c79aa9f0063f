// The one table of error codes. `docs/errors.md` is generated from it.

import { ERRNO_CODES } from "./errno-codes.js";
import type { ErrorCodeInfo } from "./error-code-info.js";

export type { ErrorCodeInfo } from "./error-code-info.js";

const table = {
  INVALID_CONFIG: {
    exitStatus: 64,
    retryable: false,
    meaning: "A value given by the caller is not acceptable; nothing was done.",
    hint: "Correct the field named in details.field.",
  },
  VM_NOT_FOUND: {
    exitStatus: 66,
    retryable: false,
    meaning: "No VM of this id exists in this state directory.",
    hint: "List the VMs with `smolvm list`, and check SMOLVM_STATE_DIR.",
  },
  VM_EXISTS: {
    exitStatus: 73,
    retryable: false,
    meaning: "A VM of this id exists already; it was not touched.",
    hint: "Choose another id or delete the existing VM.",
  },
  INVALID_STATE: {
    exitStatus: 70,
    retryable: false,
    meaning: "The VM is not in a state in which this call is allowed.",
    hint: "Call what the message names first.",
  },
  BOOT_TIMEOUT: {
    exitStatus: 75,
    retryable: true,
    meaning: "The guest did not answer within the boot deadline; the VM was taken down again.",
    hint: "Read the serial tail in the details; raise bootTimeoutMs on a busy host.",
  },
  BOOT_FAILED: {
    exitStatus: 71,
    retryable: false,
    meaning: "The VMM or the guest ended during boot.",
    hint: "Read the serial tail and the VMM's stderr in the details.",
  },
  COMMAND_FAILED: {
    exitStatus: 1,
    retryable: false,
    meaning: "A command exited non-zero, or was killed, while `check` was asked for.",
    hint: "Read what the command wrote to stderr.",
  },
  COMMAND_TIMEOUT: {
    exitStatus: 124,
    retryable: true,
    meaning: "A command ran longer than its timeout; its processes were killed.",
    hint: "Raise timeoutMs, or make the command shorter.",
  },
  ABORTED: {
    exitStatus: 130,
    retryable: true,
    meaning: "The caller's AbortSignal ended the operation.",
    hint: "Nothing to do: the caller asked for it.",
  },
  TIMEOUT: {
    exitStatus: 75,
    retryable: true,
    meaning: "An operation other than a boot or a command did not finish within its deadline.",
    hint: "Try again, or raise timeoutMs.",
  },
  HOST_UNSUPPORTED: {
    exitStatus: 69,
    retryable: false,
    meaning: "This host lacks something the operation needs.",
    hint: "Run `smolvm doctor` for the remedy.",
  },
  HOST_COMMAND_FAILED: {
    exitStatus: 71,
    retryable: false,
    meaning: "A program on the host that SmolVM called ended with an error.",
    hint: "Read argv and stderr in the details.",
  },
  IMAGE_FAILED: {
    exitStatus: 74,
    retryable: false,
    meaning: "An image could not be built, read or verified.",
    hint: "Run `smolvm image build --force`, or read the details.",
  },
  IMAGE_NOT_FOUND: {
    exitStatus: 66,
    retryable: false,
    meaning: "No image of this name or digest exists.",
    hint: "List the images with `smolvm image list`.",
  },
  SNAPSHOT_NOT_FOUND: {
    exitStatus: 66,
    retryable: false,
    meaning: "No snapshot or checkpoint of this id exists in this state directory.",
    hint: "List the snapshots with `smolvm snapshot list`; old checkpoints go when a VM has too many.",
  },
  SNAPSHOT_EXISTS: {
    exitStatus: 73,
    retryable: false,
    meaning: "A snapshot of this name exists already; it was not touched.",
    hint: "Choose another name or delete the existing snapshot.",
  },
  SNAPSHOT_FAILED: {
    exitStatus: 74,
    retryable: false,
    meaning: "A snapshot is damaged, or does not fit this host; nothing was started from it.",
    hint: "Read the details; delete the snapshot if its files were altered.",
  },
  NETWORK_FAILED: {
    exitStatus: 74,
    retryable: false,
    meaning: "The VM's network could not be set up.",
    hint: "Run `smolvm doctor`, or read the details.",
  },
  PORT_IN_USE: {
    exitStatus: 73,
    retryable: true,
    meaning: "A host port asked for is taken.",
    hint: "Choose another host port, or leave it out to get a free one.",
  },
  CHANNEL_CLOSED: {
    exitStatus: 74,
    retryable: true,
    meaning: "The connection to the guest agent ended before the answer came.",
    hint: "Check the VM with `smolvm info`; its log may say why it ended.",
  },
  PROTOCOL_ERROR: {
    exitStatus: 76,
    retryable: false,
    meaning: "The guest sent something that is not the protocol; the connection was ended.",
    hint: "Treat the guest as hostile or broken: delete the VM.",
  },
  STORAGE_FAILED: {
    exitStatus: 74,
    retryable: false,
    meaning: "The state database, or a file of the host, could not be read or written.",
    hint: "Check free space and permissions, of the state directory and of the path in the details.",
  },
  COMMAND_REFUSED: {
    exitStatus: 77,
    retryable: false,
    meaning: "A beforeRun hook refused the command; the guest saw nothing of it.",
    hint: "Read the hook's reason in the details; change the command or the hook.",
  },
  PROCESS_NOT_FOUND: {
    exitStatus: 66,
    retryable: false,
    meaning: "No detached process of this id is in the VM, running or among the last that ended.",
    hint: "List the processes with `vm.processes.list()`.",
  },
  TRANSFER_FAILED: {
    exitStatus: 74,
    retryable: false,
    meaning: "A tree of files that was copied breaks the rules, or ended early; nothing was written.",
    hint: "Read the details; a guest that sends such a tree is hostile or broken.",
  },
  SSH_FAILED: {
    exitStatus: 74,
    retryable: true,
    meaning: "The VM's SSH server could not be started or reached.",
    hint: "Check that the image has sshd; the VM's log may say more.",
  },
  MOUNT_FAILED: {
    exitStatus: 74,
    retryable: false,
    meaning: "A directory of the host could not be mounted in the guest.",
    hint: "Check that the directory exists and can be read, and the guest path in the details.",
  },
  UNSUPPORTED: {
    exitStatus: 69,
    retryable: false,
    meaning: "This version or this backend cannot do what was asked for.",
    hint: "Leave the option out.",
  },
  BUSY: {
    exitStatus: 75,
    retryable: true,
    meaning: "Another process is using what this call needs and did not finish in time.",
    hint: "Try again in a moment.",
  },
  INTERNAL: {
    exitStatus: 70,
    retryable: false,
    meaning: "A defect in SmolVM.",
    hint: "Report it with the message and the stack.",
  },
  ...ERRNO_CODES,
} as const satisfies Record<string, ErrorCodeInfo>;

/** Every code a {@link SmolVMError} can carry. */
export type ErrorCode = keyof typeof table;

/** The table, total over {@link ErrorCode}. */
export const ERROR_CODES: Readonly<Record<ErrorCode, ErrorCodeInfo>> = table;
