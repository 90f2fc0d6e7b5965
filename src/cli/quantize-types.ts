// What `subbyte quantize` is asked for, works with and reports: shared by its parts, which import nothing of each other's.

import type { Backend } from '../backends/backend.ts';
import type { Solver } from '../backends/wasm/solver.ts';
import type { ModelWeights } from '../models/weights.ts';
import type { LayerReport } from '../quantize/calibration/calibrate.ts';
import type { InputReport } from '../quantize/calibration/static-inputs.ts';
import type { CalibrationWindows } from '../quantize/calibration/windows.ts';
import type { Importance } from '../quantize/methods/importance.ts';
import type { Recipe } from '../quantize/recipe/recipe.ts';
import type { TensorQuantizer } from '../quantize/tensor-quantizer.ts';
import type { OpenedModel } from './open-model.ts';
import type { Session } from './session.ts';

export type ContainerName = 'gguf' | 'safetensors' | 'none';

export interface QuantizeTarget {
  format: string;
  /** Undefined: every container that can hold the format. */
  containers: ContainerName[] | undefined;
}

export interface QuantizeRequest {
  targets: QuantizeTarget[];
  /** Type in GGUF files, instead of the format's own. */
  ggufType?: string;
  /** Everything but the formats, which `targets` has. */
  recipe: Recipe;
  calibration?: CalibrationWindows;
  /** Bytes that calibration's activations may take in memory. */
  memory: number;
  /** Tells the time of a pass from that of its statistics. */
  profile: boolean;
  out: string;
  name: string;
  verify: boolean;
  /** Undefined: quality is not measured. */
  quality: { tokens: Int32Array; window: number } | undefined;
}

export interface QuantizeEntry {
  format: string;
  container: ContainerName;
  path: string;
  bytes: number;
  /** Of the quantized tensors, counted from the bytes in the file. */
  bitsPerWeight: number;
  /** Of the whole file. */
  fileBitsPerWeight: number;
  perplexity?: number;
  originalPerplexity?: number;
  kl?: number;
  klError?: number;
  top1?: number;
  /** Seconds to read, quantize and write. */
  seconds: number;
  reused: boolean;
  verified?: { tensors: number; cosine?: number; maxError?: number; kl?: number };
  /** What a method did to the layers, where it was more than rounding to nearest. */
  method?: MethodReport;
  notes: string[];
  /** What the user was told before the work began. */
  warnings: string[];
}

/** Everything the run needs open: the source, a quantizer, a backend where something has to be computed. */
export interface QuantizeContext {
  session: Session;
  model: OpenedModel;
  /** The model as it is rounded: transformed, with its runtime scheme. */
  weights: ModelWeights;
  quantizer: TensorQuantizer;
  /** The scalar codec, which the output is checked against. */
  reference: TensorQuantizer;
  backend: Backend | undefined;
  solving: SolveTools | undefined;
}

export interface QuantizeResult {
  entries: QuantizeEntry[];
  omitted: OmittedOutput[];
}

/** What solving needs besides what every quantization needs. */
export interface SolveTools {
  readonly backend: Backend | undefined;
  readonly solver: Solver;
  /** Of a file that the recipe names. */
  readonly importance: Importance | undefined;
}

/** An output that was not written because its container cannot hold the format. */
export interface OmittedOutput {
  format: string;
  container: ContainerName;
  reason: string;
}

export interface MethodReport {
  /** Every layer, in the order of the model. */
  layers: readonly LayerReport[];
  /** Static ranges of the layers' inputs; absent: there are none. */
  inputs?: readonly InputReport[];
  notes: readonly string[];
  /** By phase. */
  profileSeconds: Record<string, number>;
}
