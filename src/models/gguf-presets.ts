// llama.cpp's file types: which tensor gets which block type.
//
// Problem: `q4_k_m` is not one type but a mixture: llama.cpp spends more bits where small models suffer most (the
// output matrix, V projections, the down projections of the first and last layers).
// Method: its rules restated for the architectures of this project, per tensor and layer. A layer gets more bits when
// i < n/8, i ≥ 7n/8 or (i − n/8) mod 3 = 2, with whole-number divisions; "i" counts the layers in order.
// A row length that the type's block does not divide falls back to a type with blocks of 32, and to F16 when 32 does not
// divide it either. The table of fallbacks is llama.cpp's too.
// Source: llama.cpp, src/llama-quant.cpp (facts, not code); the test compares with its quantizer in a dry run's output.
// It does not do: presets built on the lattice types (IQ1 … IQ3), which have no encoder here.

import type { GgmlTypeName } from '../formats/format.ts';
import { ggmlType } from '../formats/ggml/types.ts';

/** Block types, and the float types that a tensor of a GGUF file may have instead. */
export type GgufTypeName = GgmlTypeName | 'f32' | 'f16' | 'bf16';

/** general.file_type of a file in which most tensors have this type or follow this preset. */
export const fileTypes = {
  f32: 0,
  f16: 1,
  q4_0: 2,
  q4_1: 3,
  q8_0: 7,
  q5_0: 8,
  q5_1: 9,
  q2_k: 10,
  q3_k_s: 11,
  q3_k_m: 12,
  q3_k_l: 13,
  q4_k_s: 14,
  q4_k_m: 15,
  q5_k_s: 16,
  q5_k_m: 17,
  q6_k: 18,
  q2_k_s: 21,
  iq4_nl: 25,
  iq4_xs: 30,
  bf16: 32,
  tq1_0: 36,
  tq2_0: 37,
  'ggml-mxfp4': 38,
  'ggml-nvfp4': 39,
  q1_0: 40,
  q2_0: 41,
  q3_k: 11,
  q4_k: 14,
  q5_k: 16,
} as const;

const bases = {
  q2_k_m: 'q2_k',
  q2_k_s: 'q2_k',
  q3_k_s: 'q3_k',
  q3_k_m: 'q3_k',
  q3_k_l: 'q3_k',
  q4_k_s: 'q4_k',
  q4_k_m: 'q4_k',
  q5_k_s: 'q5_k',
  q5_k_m: 'q5_k',
} as const satisfies Record<string, GgmlTypeName>;

/** Mixtures; `q2_k_m` is what llama.cpp calls Q2_K, since here `q2_k` means every matrix in Q2_K. */
export type GgufPreset = keyof typeof bases;

export const ggufPresets = Object.keys(bases) as GgufPreset[];

/** What the mixture depends on. */
export interface PresetModel {
  layers: number;
  heads: number;
  kvHeads: number;
  /** Experts of a layer, 0 for none. */
  experts: number;
  tiedEmbeddings: boolean;
}

/**
 * The type that a preset gives a 2-D or stacked weight, before fallbacks for odd row lengths.
 *
 * @param name GGUF name, for example `blk.3.ffn_down.weight`
 * @param cols row length K; the output matrix takes Q8_0 when the preset's block does not divide it
 * @example presetType('q4_k_m', 'blk.0.attn_v.weight', 4096, model) // 'q6_k'
 */
export function presetType(preset: GgufPreset, name: string, cols: number, model: PresetModel): GgmlTypeName {
  const base = bases[preset];
  const parts = /^(?:blk\.(\d+)\.)?(\w+)\.weight$/.exec(name);
  const part = parts?.[2] ?? '';
  const layer = Number(parts?.[1] ?? 0);
  const eighth = Math.floor(model.layers / 8);
  const more =
    layer < eighth || layer >= Math.floor((7 * model.layers) / 8) || (layer >= eighth && (layer - eighth) % 3 === 2);
  const eight = model.experts === 8;
  if (part === 'output' || (part === 'token_embd' && model.tiedEmbeddings))
    return cols % ggmlType(base).block === 0 ? 'q6_k' : 'q8_0';
  if (part === 'attn_v') return eight ? 'q8_0' : valueType(preset, layer, more, model);
  if (part === 'attn_k' && eight) return 'q8_0';
  if (part.startsWith('ffn_down')) return downType(preset, layer, more, model.layers);
  if (part === 'attn_output') return outputProjectionType(preset, eight);
  return base;
}

function valueType(preset: GgufPreset, layer: number, more: boolean, model: PresetModel): GgmlTypeName {
  const shared = model.heads / model.kvHeads >= 4;
  // what llama.cpp knows as its 70B model: eight heads share one V, so its bits are cheap
  const wide = model.layers === 80 && model.heads !== model.kvHeads;
  const type = ((): GgmlTypeName => {
    switch (preset) {
      case 'q2_k_m':
        return shared ? 'q4_k' : 'q3_k';
      case 'q2_k_s':
        return shared ? 'q4_k' : 'q2_k';
      case 'q3_k_m':
        return layer < 2 ? 'q5_k' : 'q4_k';
      case 'q3_k_l':
        return 'q5_k';
      case 'q4_k_s':
        return layer < 4 ? 'q5_k' : 'q4_k';
      case 'q4_k_m':
      case 'q5_k_m':
        return more ? 'q6_k' : bases[preset];
      default:
        return bases[preset];
    }
  })();
  return wide && (type === 'q3_k' || type === 'q4_k') ? 'q5_k' : type;
}

function downType(preset: GgufPreset, layer: number, more: boolean, layers: number): GgmlTypeName {
  const early = layer < Math.floor(layers / 8);
  switch (preset) {
    case 'q2_k_m':
      return 'q3_k';
    case 'q2_k_s':
      return early ? 'q4_k' : 'q2_k';
    case 'q3_k_m':
      return layer < Math.floor(layers / 16) ? 'q5_k' : 'q4_k';
    case 'q3_k_l':
      return 'q5_k';
    case 'q4_k_s':
      return early ? 'q5_k' : 'q4_k';
    case 'q4_k_m':
    case 'q5_k_m':
      return more ? 'q6_k' : bases[preset];
    default:
      return bases[preset];
  }
}

function outputProjectionType(preset: GgufPreset, eightExperts: boolean): GgmlTypeName {
  if (eightExperts && !['q2_k_s', 'q3_k_l', 'q5_k_s', 'q5_k_m'].includes(preset)) return 'q5_k';
  if (eightExperts) return bases[preset];
  if (preset === 'q2_k_m') return 'q3_k';
  if (preset === 'q3_k_m') return 'q4_k';
  return preset === 'q3_k_l' ? 'q5_k' : bases[preset];
}

const substitutes: Partial<Record<GgmlTypeName, GgmlTypeName>> = {
  iq4_xs: 'iq4_nl',
  q2_0: 'q4_0',
  q2_k: 'q4_0',
  q3_k: 'q4_0',
  tq1_0: 'q4_0',
  tq2_0: 'q4_0',
  q4_k: 'q5_0',
  q5_k: 'q5_1',
  q6_k: 'q8_0',
};

/**
 * The type that a matrix with rows of `cols` values can have: the wanted one when its block divides the row, else the
 * substitute, else f16.
 *
 * @example fallbackType('q4_k', 320) // 'q5_0'
 */
export function fallbackType(wanted: GgmlTypeName, cols: number): GgmlTypeName | 'f16' {
  if (cols % ggmlType(wanted).block === 0) return wanted;
  const substitute = substitutes[wanted];
  return substitute && cols % ggmlType(substitute).block === 0 ? substitute : 'f16';
}
