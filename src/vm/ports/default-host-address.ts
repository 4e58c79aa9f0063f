// Apart from the other options, so that the command line can have it without loading the library.

/** Where forwarded ports listen unless asked otherwise: only this host reaches it. */
export const DEFAULT_HOST_ADDRESS = "127.0.0.1";
