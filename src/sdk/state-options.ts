// Which VMs are meant.

/** Where to look for VMs. */
export interface StateOptions {
  /** Default `SMOLVM_STATE_DIR` or `~/.local/state/smolvm`. */
  readonly stateDir?: string | undefined;
}
