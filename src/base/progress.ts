// How long work tells whoever asked what it is doing. No output happens here.

/** One report of a long operation. */
export interface ProgressEvent {
  /** What is being done now, e.g. `"Installing Debian packages"`. */
  readonly step: string;
  /** Finer detail of the step, e.g. a package name. */
  readonly detail?: string;
  /** Share done, 0 to 1, where it is known. */
  readonly fraction?: number;
}

/** Receives progress reports; must not throw. */
export type ProgressListener = (event: ProgressEvent) => void;
