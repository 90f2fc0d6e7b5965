// Rotations of a whole decoder that leave what it computes unchanged, but spread the outliers of its activations.
//
// Problem: a few channels of the residual stream and of the MLPs' hidden layers are tens of times larger than the rest;
// with a scale a token or a tensor, 4 bits are lost on them.
// Method: RMSNorm without gain commutes with orthogonal matrices, so the residual stream can be rotated once and for all:
//   gains   W ← W · diag(g) for the layers behind a norm (the head behind the last), then g ← 1
//   R1      E ← E · R1; W ← W · R1 for layers that read the stream; W ← R1ᵀ · W, b ← b · R1 for those that add to it
//   R2      W_v ← R2ᵀ · W_v and b_v ← b_v · R2 for each key/value head, W_o ← W_o · R2 for each query head: attention
//           mixes tokens, not channels, so the query heads of a group all see the rotation of their key/value head
//   online  x ← x · H at run time, W ← W · H: o_proj, down_proj, or every layer in blocks (runtime-scheme.ts)
// Every tensor is mapped when it is loaded, in float64, and rounded once to f32.
// Source: QuaRot (arXiv:2404.00456, sections 3.1–3.4), SpinQuant (arXiv:2405.16406) for the names R1 … R4, MR-GPTQ
// (arXiv:2509.23202) for blocks. It does not do: learned rotations; norms with a bias or an offset (no family has one).

import type { DecoderConfig } from '../../models/config.ts';
import { runtimeName } from '../../models/runtime-layers.ts';
import { inputRotation, printRuntime, type RuntimeScheme } from '../../models/runtime-scheme.ts';
import { denseF32 } from '../../models/stack.ts';
import { expectedTensors } from '../../models/tensors.ts';
import type { ModelWeights } from '../../models/weights.ts';
import { type AnyTensor, tensorF32 } from '../../tensor/tensor.ts';
import { type MatrixMap, mapBias, mapMatrix } from './map-matrix.ts';
import { checkRotationOptions, onlineRules, type RotationOptions } from './options.ts';
import { hadamardRotation, type Orthogonal, offlineRotation } from './orthogonal.ts';

/** What becomes of one tensor. */
interface TensorMap extends Omit<MatrixMap, 'gain'> {
  /** Tensor that it is made of, when that is another one. */
  readonly from?: string;
  /** Name of the norm whose gain it takes in. */
  readonly norm?: string;
  /** A norm whose gain went elsewhere. */
  readonly ones?: boolean;
}

/**
 * The rotated model. Nothing is read until its tensors are loaded; those that change are dense f32. The config says
 * what is left to do online, and that the head is a matrix of its own.
 *
 * Throws a user error for options that exclude each other or do not fit the model, and for a model that has online
 * rotations already.
 *
 * @example const rotated = await rotateModel(weights, { ...quarotRotations, seed: 1 });
 */
export async function rotateModel(weights: ModelWeights, options: RotationOptions): Promise<ModelWeights> {
  checkRotationOptions(weights.config, options);
  const runtime: RuntimeScheme = {
    ...weights.config.runtime,
    online: { inputs: onlineRules(weights.config, options), queryKey: options.queryKey },
  };
  const untied = options.residual === 'hadamard' && weights.config.tiedEmbeddings;
  const config: DecoderConfig = { ...weights.config, runtime };
  if (untied) config.tiedEmbeddings = false;
  const expected = expectedTensors(config);
  const maps = planMaps(config, options, untied);
  const load = async (name: string, read: (name: string) => Promise<AnyTensor>): Promise<AnyTensor> => {
    const map = maps.get(name);
    if (!map) return read(name);
    const shape = expected.get(name)?.shape ?? [];
    if (map.ones) return tensorF32(shape, new Float32Array(shape[0]).fill(1));
    const values = denseF32(await read(map.from ?? name));
    if (shape.length === 1) return tensorF32(shape, mapBias(values, map.output as Orthogonal));
    const gain = map.norm === undefined ? undefined : denseF32(await read(map.norm));
    return tensorF32(shape, mapMatrix(values, shape[0], shape[1], { ...map, gain }));
  };
  const known = (name: string) => {
    const tensor = expected.get(name);
    if (!tensor) throw new Error(`model has no tensor ${name}`);
    return tensor;
  };
  return {
    config,
    hfConfig: rotatedConfig(weights.hfConfig, runtime, untied),
    location: weights.location,
    names: () => [...expected.keys()],
    shape: (name) => known(name).shape,
    role: (name) => known(name).role,
    format: (name) => (maps.has(name) ? { kind: 'float', name: 'f32' } : weights.format(name)),
    load: (name) => load(name, weights.load),
    loadUnchecked: (name) => load(name, weights.loadUnchecked),
  };
}

function rotatedConfig(hfConfig: Record<string, unknown>, runtime: RuntimeScheme, untied: boolean) {
  const { subbyte: _, ...rest } = hfConfig;
  const subbyte = printRuntime(runtime);
  return { ...rest, ...(untied && { tie_word_embeddings: false }), ...(subbyte && { subbyte }) };
}

/** The tensors that change, by name. */
function planMaps(config: DecoderConfig, options: RotationOptions, untied: boolean): Map<string, TensorMap> {
  const { hiddenSize, headDim } = config;
  const { seed, randomSigns } = options;
  const r1 = options.residual === 'hadamard' ? offlineRotation(hiddenSize, randomSigns, seed) : undefined;
  const r2 = options.value ? offlineRotation(headDim, randomSigns, (seed + 1) >>> 0) : undefined;
  const online = new Map<string, Orthogonal>();
  const onlineOf = (weight: string): Orthogonal | undefined => {
    const rotation = inputRotation(config.runtime, runtimeName(config, weight));
    if (!rotation) return undefined;
    const key = JSON.stringify(rotation);
    const known = online.get(key) ?? hadamardRotation(rotation);
    online.set(key, known);
    return known;
  };
  const maps = new Map<string, TensorMap>();
  for (const [name, { role }] of expectedTensors(config)) {
    const site = siteOf(name);
    const inputs = [
      site.reads ? r1 : undefined,
      site.part === 'o' ? r2 : undefined,
      role === 'linear' ? onlineOf(name) : undefined,
    ].filter((q) => q !== undefined);
    const map: TensorMap = {
      ...(name === 'lm_head.weight' && untied && { from: 'model.embed_tokens.weight' }),
      ...(site.norm && r1 && { norm: site.norm }),
      ...(inputs.length > 0 && name.endsWith('.weight') && { inputs }),
      ...(site.adds && r1 && { output: r1 }),
      ...(site.part === 'v' && r2 && { output: r2 }),
      ...(site.isNorm && r1 && { ones: true }),
    };
    if (Object.keys(map).length > 0) maps.set(name, map);
  }
  return maps;
}

interface Site {
  /** The last dimension is the residual stream. */
  reads?: boolean;
  /** The first dimension is the residual stream. */
  adds?: boolean;
  /** The norm between the stream and the layer. */
  norm?: string;
  /** A norm of the stream, not of q or k. */
  isNorm?: boolean;
  part?: 'v' | 'o';
}

/** Where a tensor stands relative to the residual stream. */
function siteOf(name: string): Site {
  if (name === 'model.embed_tokens.weight') return { reads: true };
  if (name === 'lm_head.weight') return { reads: true, norm: 'model.norm.weight' };
  if (/(layernorm|model\.norm)\.weight$/.test(name)) return { isNorm: true };
  const [, layer, rest] = /^(model\.layers\.\d+)\.(.*)$/.exec(name) ?? [];
  const [, module, kind] = /^(.*)\.(weight|bias)$/.exec(rest) ?? [];
  if (/(o_proj|down_proj|\.w2)$/.test(module)) return { adds: true, part: module.endsWith('o_proj') ? 'o' : undefined };
  if (/_norm$/.test(module)) return {};
  const part = module.endsWith('v_proj') ? 'v' : undefined;
  if (kind === 'bias') return { part };
  const norm = module.startsWith('self_attn') ? 'input_layernorm' : 'post_attention_layernorm';
  return { reads: true, part, norm: `${layer}.${norm}.weight` };
}
