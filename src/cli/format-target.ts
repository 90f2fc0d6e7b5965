// What `--format` can name: a format for every linear layer, or one of llama.cpp's mixtures (`q4_k_m`), which choose a
// block type for each tensor, embeddings and output included.

import type { Format } from '../formats/format.ts';
import { parseFormat } from '../formats/registry.ts';
import { ggufName } from '../models/gguf-names.ts';
import { type GgufPreset, ggufPresets, presetType } from '../models/gguf-presets.ts';
import type { ModelWeights } from '../models/weights.ts';

export interface FormatTarget {
  format: Format;
  /** Chooses per tensor; undefined leaves the tensor as stored. */
  formatOf?: (name: string) => Format | undefined;
  preset?: GgufPreset;
}

export function parseTarget(text: string, weights: ModelWeights): FormatTarget {
  const name = text.trim().toLowerCase();
  const preset = ggufPresets.find((p) => p === name);
  if (!preset) return { format: parseFormat(text) };
  const { config } = weights;
  const model = {
    layers: config.layers,
    heads: config.heads,
    kvHeads: config.kvHeads,
    experts: config.experts?.count ?? 0,
    tiedEmbeddings: config.tiedEmbeddings,
  };
  const matrices = new Set(['linear', 'embedding', 'head']);
  return {
    preset,
    format: { kind: 'ggml', type: 'q4_k' },
    formatOf: (tensor) => {
      if (!matrices.has(weights.role(tensor))) return undefined;
      const shape = weights.shape(tensor);
      const place = ggufName(tensor);
      return place && { kind: 'ggml', type: presetType(preset, place.name, shape[shape.length - 1], model) };
    },
  };
}
