// Takes a tree of the guest apart and builds it in a stage beside the place that it will have.

import { DIRENT_TYPE } from "../files/dirent-type.js";
import { FileWrites } from "./file-writes.js";
import type { Place } from "./place.js";
import { Stage } from "./stage.js";
import type { Tally } from "./tally.js";
import { type DecodedRecord, TreeDecoder } from "./tree-decoder.js";
import { brokenTree } from "./tree-failure.js";
import type { DirectoryRecord, EntryRecord } from "./tree-record.js";
import { type TreeLimits, TreeRules } from "./tree-rules.js";

/** What the tree's root turned out to be. Only files and directories are taken; a link is for the caller to follow. */
export type RootKind = "unknown" | "file" | "directory" | "link" | "special";

export class TreeReceiver {
  readonly #place: Place;
  readonly #tally: Tally;
  readonly #decoder = new TreeDecoder();
  readonly #rules: TreeRules;
  readonly #writes: FileWrites;
  #stage: Stage | undefined;
  #root: RootKind = "unknown";
  #restricted: readonly DirectoryRecord[] = [];
  /** What is being done with the data that came last. */
  #work: Promise<void> = Promise.resolve();
  #isOver = false;

  constructor(place: Place, tally: Tally, limits: TreeLimits) {
    this.#place = place;
    this.#tally = tally;
    this.#rules = new TreeRules(limits);
    this.#writes = new FileWrites(place.path);
  }

  get root(): RootKind {
    return this.#root;
  }

  /** The next data of the tree; called again only when it has resolved. @throws {TRANSFER_FAILED} @throws {STORAGE_FAILED} */
  take(data: Buffer): Promise<void> {
    this.#work = this.#takeAll(data);
    return this.#work;
  }

  /** No more data comes: the tree must be whole, and is written when this resolves. @throws {TRANSFER_FAILED} */
  async complete(): Promise<void> {
    if (!this.#decoder.isComplete) throw brokenTree("it ended early");
    await this.#writes.settle();
    this.#restricted = (await this.#stage?.complete()) ?? [];
  }

  /** Moves the tree to its place. */
  async place(): Promise<void> {
    if (this.#stage === undefined) return;
    await this.#place.take(this.#stage, this.#root === "directory", this.#restricted);
  }

  /** Removes what was built and is not in its place. Nothing of it is written afterwards. */
  async discard(): Promise<void> {
    this.#isOver = true;
    await this.#work.catch(() => {});
    await this.#writes.settle().catch(() => {});
    const stage = this.#stage;
    this.#stage = undefined;
    await stage?.discard();
  }

  async #takeAll(data: Buffer): Promise<void> {
    for (const record of this.#decoder.push(data)) {
      if (this.#isOver) return;
      if (this.#root === "unknown") await this.#begin(record);
      this.#rules.check(record);
      const work = this.#build(record);
      if (work !== undefined) await work;
    }
    this.#tally.report();
  }

  /** The first record says what the root is. */
  async #begin(record: DecodedRecord): Promise<void> {
    if (record.kind === "content" || record.kind === "end" || record.path !== "") return; // The rules refuse it.
    this.#root = rootKind(record);
    // Where the link leads is not in this tree.
    if (this.#root === "link" || this.#root === "special") throw brokenTree(`its root is a ${this.#root} file`);
    await this.#place.check(this.#root === "directory");
  }

  #build(record: DecodedRecord): void | Promise<void> {
    if (record.kind === "content") {
      this.#tally.addContent(record.data.length);
      return this.#writes.content(record.offset, record.data);
    }
    this.#writes.end();
    if (record.kind === "end") return undefined;
    this.#tally.add(record);
    return record.kind === "leftOut" ? undefined : this.#make(record);
  }

  async #make(record: Exclude<EntryRecord, { kind: "leftOut" }>): Promise<void> {
    this.#stage ??= await Stage.make(this.#place.base);
    const stage = this.#stage;
    if (record.kind === "directory") await stage.makeDirectory(record);
    else if (record.kind === "link") await stage.makeLink(record);
    else await this.#writes.begin(record, () => stage.makeFile(record));
  }
}

function rootKind(record: EntryRecord): RootKind {
  if (record.kind !== "leftOut") return record.kind;
  return record.type === DIRENT_TYPE.link ? "link" : "special";
}
