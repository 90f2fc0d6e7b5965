// One view of a model on disk, whatever its container.
//
// A Checkpoint lists tensors and reads their raw bytes, one at a time; it never holds the model in memory and knows
// nothing about architectures. Names and layouts are the container's own: models/ maps them to one vocabulary.

/** Stored element types: safetensors names, or `ggml:<type>` for GGUF block types. */
export type StoredDtype = string;

export interface TensorInfo {
  readonly name: string;
  readonly dtype: StoredDtype;
  /** Row-major, outermost first (GGUF's reversed dims are turned round by the reader). */
  readonly shape: readonly number[];
  readonly file: string;
  /** From the start of the file. */
  readonly byteOffset: number;
  readonly byteLength: number;
}

export type MetadataValue = string | number | bigint | boolean | MetadataValue[] | Float32Array | Int32Array;

export interface Checkpoint {
  readonly container: 'safetensors' | 'gguf';
  /** Folder, file or `hf:org/name`, for messages. */
  readonly location: string;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** safetensors `__metadata__`, or all GGUF keys. */
  readonly metadata: ReadonlyMap<string, MetadataValue>;
  /** The raw bytes of one tensor. Throws a model error naming file and tensor when they cannot be read. */
  read(name: string): Promise<Uint8Array>;
  /** Part of one tensor: `length` bytes from `offset` within it. */
  readRange(name: string, offset: number, length: number): Promise<Uint8Array>;
  /** A file beside the weights (config.json, tokenizer.json), or undefined. */
  sidecar(fileName: string): Promise<Uint8Array | undefined>;
  close(): Promise<void>;
}
