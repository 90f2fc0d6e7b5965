// What the writers of containers have in common: the job they get and the report they give.

import type { Format } from '../formats/format.ts';
import type { Checkpoint } from '../io/checkpoint.ts';
import type { ModelWeights } from '../models/weights.ts';
import type { QuantizePlan } from './plan.ts';
import type { TensorQuantizer } from './tensor-quantizer.ts';

export interface OutputProgress {
  advance(bytes: number, detail?: string): void;
  /** Seconds taken. */
  done(): number;
}

export interface OutputJob {
  checkpoint: Checkpoint;
  weights: ModelWeights;
  plan: QuantizePlan;
  quantizer: TensorQuantizer;
  /** The file (GGUF) or folder (safetensors) to write. */
  path: string;
  /** Name of the model, for metadata. */
  name: string;
  seed: number;
  /** Number of each tensor in the model: the stream of its random numbers. */
  streams: ReadonlyMap<string, number>;
  /** A llama.cpp mixture such as `q4_k_m` that chose the formats. */
  preset?: string;
  /** Written into the file: tool version, recipe, source. */
  provenance: Readonly<Record<string, string>>;
  signal: AbortSignal;
  progress(totalBytes: number): OutputProgress;
}

export interface OutputReport {
  /** What opens it: the file or folder. */
  path: string;
  files: string[];
  /** Bytes of all weight files together. */
  bytes: number;
  /** Bytes in the files of the tensors that were quantized. */
  quantizedBytes: number;
  /** Fallbacks and anything else a user should know. */
  notes: string[];
  seconds: number;
}

/** A container that quantized models are written to. */
export interface OutputKind {
  /** Throws when the container cannot hold the plan; reads no weights. */
  check(job: OutputJob): Promise<void>;
  write(job: OutputJob): Promise<OutputReport>;
  /** The report of a whole output of the same job that is there already; undefined when there is none. */
  finished(job: OutputJob): Promise<OutputReport | undefined>;
  /** The format of a tensor in the file; undefined when it is kept as stored. */
  formatInFile(job: OutputJob, name: string): Format | undefined;
  /** Relative error that the container itself brings to a format's values; 0 for all but one. */
  relativeError(format: Format | undefined): number;
}
