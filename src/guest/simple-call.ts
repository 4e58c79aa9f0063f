// A call without data, on its way to its answer.

import { type Deferred, deferred } from "../base/deferred.js";
import type { SmolVMError } from "../errors/smolvm-error.js";
import { FieldReader } from "./fields.js";
import type { Frame } from "./frame.js";
import { GuestRefusal } from "./guest-refusal.js";
import type { ClientStream } from "./stream-transport.js";
import { violation } from "./violation.js";

export class SimpleCall implements ClientStream {
  readonly holdsProgram = true;
  readonly #operation: string;
  readonly #reply: Deferred<FieldReader> = deferred();

  constructor(operation: string) {
    this.#operation = operation;
    this.#reply.promise.catch(() => {});
  }

  get reply(): Promise<FieldReader> {
    return this.#reply.promise;
  }

  accept(frame: Frame): boolean {
    if (frame.name !== "reply") throw violation(`frame ${frame.name} does not answer a call`);
    this.#reply.resolve(new FieldReader(frame.payload));
    return true;
  }

  refuse(errno: string, message: string): void {
    this.#reply.reject(new GuestRefusal(this.#operation, errno, message));
  }

  fail(error: SmolVMError): void {
    this.#reply.reject(error);
  }
}
