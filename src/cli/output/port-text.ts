// A port of the host as people write it.

/** E.g. `127.0.0.1:8080`. */
export function portText(port: { readonly hostAddress: string; readonly hostPort: number }): string {
  const { hostAddress, hostPort } = port;
  return `${hostAddress.includes(":") ? `[${hostAddress}]` : hostAddress}:${hostPort}`;
}
