// Signal numbers of the guest, which is always Linux (signal(7), x86 and ARM), whatever the host is.

const NUMBER_BY_NAME = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGILL: 4,
  SIGTRAP: 5,
  SIGABRT: 6,
  SIGBUS: 7,
  SIGFPE: 8,
  SIGKILL: 9,
  SIGUSR1: 10,
  SIGSEGV: 11,
  SIGUSR2: 12,
  SIGPIPE: 13,
  SIGALRM: 14,
  SIGTERM: 15,
  SIGSTKFLT: 16,
  SIGCHLD: 17,
  SIGCONT: 18,
  SIGSTOP: 19,
  SIGTSTP: 20,
  SIGTTIN: 21,
  SIGTTOU: 22,
  SIGURG: 23,
  SIGXCPU: 24,
  SIGXFSZ: 25,
  SIGVTALRM: 26,
  SIGPROF: 27,
  SIGWINCH: 28,
  SIGIO: 29,
  SIGPWR: 30,
  SIGSYS: 31,
} as const;

/** Name of a signal in the guest. */
export type GuestSignal = keyof typeof NUMBER_BY_NAME;

const NAME_BY_NUMBER = new Map<number, GuestSignal>(
  Object.entries(NUMBER_BY_NAME).map(([name, number]) => [number, name as GuestSignal]),
);

/** The number of a signal in the guest. */
export function signalNumber(name: GuestSignal): number {
  return NUMBER_BY_NAME[name];
}

/** The name of a signal in the guest; real-time signals are `SIG` and the number. */
export function signalName(number: number): string {
  return NAME_BY_NUMBER.get(number) ?? `SIG${number}`;
}

/** Whether a value is the name of a signal. */
export function isGuestSignal(value: unknown): value is GuestSignal {
  return typeof value === "string" && Object.hasOwn(NUMBER_BY_NAME, value);
}
