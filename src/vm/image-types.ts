// Types of the images room, for rooms that may not know it.

export type { ImageInfo } from "../images/image-catalogue.js";
export type { PruneResult } from "../images/image-removal.js";
export type { BootImage } from "../images/image-store.js";
export type { RemovedEntry } from "../images/remove-unused.js";
export type { TemplateInfo } from "../images/template-files.js";
