// What the table of error codes says about each of them.

/** What is fixed about an error code, whatever the circumstances. */
export interface ErrorCodeInfo {
  /** Exit status of the command line. 64 and above follow `sysexits.h` where it has a match. */
  readonly exitStatus: number;
  /** Whether the same call may succeed later without any change. */
  readonly retryable: boolean;
  /** What it means, one sentence. */
  readonly meaning: string;
  /** What to do about it unless the error itself says something more precise. */
  readonly hint: string;
}
