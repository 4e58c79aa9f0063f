// What Firecracker 1.16.1 holds requests to and its description does not say, as data. Facts from its source; each table
// names the place. test: real-configuration.test.ts and real-states.test.ts compare them with the program.

/** When a request is taken. */
export type When =
  | "always"
  | "before-start"
  /** Before the start, while nothing was configured that {@link Rule.configures}. */
  | "unconfigured"
  | "after-start"
  | "paused";

export interface Rule {
  readonly when: When;
  /** After it, even if it was refused for what its body asks for, no snapshot can be loaded. */
  readonly configures?: true;
  /** A refusal for what its files hold ends the process. */
  readonly endsWhenRefused?: true;
}

/**
 * By the name in the description; with a value of `action_type` where that decides. Requests that are not here are not
 * done by the double.
 *
 * src/vmm/src/rpc_interface.rs: handle_preboot_request, load_snapshot, RuntimeApiController::handle_request.
 */
export const RULES: Readonly<Record<string, Rule>> = {
  "GET /": { when: "always" },
  "GET /version": { when: "always" },
  "GET /vm/config": { when: "always" },
  "GET /machine-config": { when: "always" },
  "GET /balloon": { when: "always" },
  "PUT /machine-config": { when: "before-start", configures: true },
  "PUT /boot-source": { when: "before-start", configures: true },
  // After the start only with PCI, which the backend does not use.
  "PUT /drives/{drive_id}": { when: "before-start", configures: true },
  "PUT /network-interfaces/{iface_id}": { when: "before-start", configures: true },
  "PUT /vsock": { when: "before-start", configures: true },
  "PUT /entropy": { when: "before-start", configures: true },
  "PUT /balloon": { when: "before-start", configures: true },
  "PUT /logger": { when: "before-start" },
  "PUT /metrics": { when: "before-start" },
  "PUT /serial": { when: "before-start" },
  "PUT /actions InstanceStart": { when: "before-start" },
  "PUT /actions FlushMetrics": { when: "after-start" },
  "PUT /actions SendCtrlAltDel": { when: "after-start" },
  "PATCH /drives/{drive_id}": { when: "after-start" },
  "PATCH /balloon": { when: "after-start" },
  "PATCH /vm": { when: "after-start" },
  "PUT /snapshot/create": { when: "paused" },
  "PUT /snapshot/load": { when: "unconfigured", endsWhenRefused: true },
};

/** Bounds of integers, by schema and property. All are unsigned; the widths are those of the types in vmm_config/*.rs. */
export const BOUNDS: Readonly<Record<string, { readonly minimum?: number; readonly maximum?: number }>> = {
  "MachineConfiguration.mem_size_mib": { minimum: 1 },
  "Balloon.amount_mib": { maximum: 2 ** 32 - 1 },
  "Balloon.stats_polling_interval_s": { maximum: 2 ** 16 - 1 },
  "BalloonUpdate.amount_mib": { maximum: 2 ** 32 - 1 },
  "Vsock.guest_cid": { maximum: 2 ** 32 - 1 },
};

/** Schemas in which a property that the description does not know is taken (serde's deny_unknown_fields is not there). */
export const OPEN_SCHEMAS = ["Metrics", "NetworkOverride", "TokenBucket", "VsockOverride"];

/** Longest request body, in bytes (micro_http/src/server.rs: MAX_PAYLOAD_SIZE; `--http-api-max-payload-size`). */
export const BODY_LIMIT_BYTES = 51_200;
/** Longest line of a request, in bytes (micro_http/src/connection.rs: BUFFER_SIZE). */
export const LINE_LIMIT_BYTES = 1_024;
/** Connections at once (micro_http/src/server.rs: MAX_CONNECTIONS). */
export const CONNECTION_LIMIT = 10;
/** Longest kernel command line, in bytes (src/vmm/src/arch/x86_64/layout.rs: CMDLINE_MAX_SIZE, which counts its NUL). */
export const BOOT_ARGS_LIMIT_BYTES = 2_047;
/** Longest path of a unix socket, in bytes (unix(7)). */
export const SOCKET_PATH_LIMIT_BYTES = 107;
/** Longest name of a network device, in bytes (netdevice(7): IFNAMSIZ, which counts its NUL). */
export const DEVICE_NAME_LIMIT_BYTES = 15;
/** What ids in paths are made of (src/firecracker/src/api_server/parsed_request.rs: checked_id; ASCII here). */
export const ID = /^[A-Za-z0-9_]+$/;
/** What a MAC address looks like (src/vmm/src/utils/net/mac.rs). */
export const MAC_ADDRESS = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i;
