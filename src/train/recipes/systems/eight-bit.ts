// Eight- and six-bit training: FP8 by tensors and by tiles, MXFP8, MXFP6, INT8.
//
// FP8 takes E4M3 forward and E5M2 for gradients, whose range is wider (Micikevicius et al. 2022, arXiv:2209.05433); tiles
// are those of DeepSeek-V3 (2024, arXiv:2412.19437, section 3.3), which takes E4M3 everywhere. MX formats are those of the
// OCP specification, each operand blocked along its own reduction, from the tensor itself (Rouhani et al. 2023,
// arXiv:2310.10537, figure 2). Backward products of INT8 round to nearest too.

import { alike, type LinearRecipe, type Operand } from '../linear-recipe.ts';

const again = (format: string): Operand => ({ format, from: 'exact' });

export const fp8Tensor: LinearRecipe = {
  doc: 'FP8, one scale a tensor: E4M3 forward, E5M2 gradients',
  forward: alike({ format: 'fp8-e4m3-tensor' }),
  gradInput: { a: again('fp8-e5m2-tensor'), b: again('fp8-e4m3-tensor') },
  gradWeight: { a: again('fp8-e5m2-tensor'), b: again('fp8-e4m3-tensor') },
};

const [row, square] = ['fp8-e4m3-tile1x128', 'fp8-e4m3-tile128x128'];

export const fp8Tiles: LinearRecipe = {
  doc: 'FP8 E4M3, a scale for 1×128 values of activations and gradients and for 128×128 of weights',
  forward: { a: { format: row }, b: { format: square } },
  gradInput: { a: again(row), b: again(square) },
  gradWeight: { a: again(row), b: again(row) },
};

export const mxfp8: LinearRecipe = {
  doc: 'MXFP8: E4M3 forward, E5M2 gradients',
  forward: alike({ format: 'mxfp8-e4m3' }),
  gradInput: { a: again('mxfp8-e5m2'), b: again('mxfp8-e4m3') },
  gradWeight: { a: again('mxfp8-e5m2'), b: again('mxfp8-e4m3') },
};

export const mxfp6: LinearRecipe = {
  doc: 'MXFP6: E2M3 forward, E3M2 gradients',
  forward: alike({ format: 'mxfp6-e2m3' }),
  gradInput: { a: again('mxfp6-e3m2'), b: again('mxfp6-e2m3') },
  gradWeight: { a: again('mxfp6-e3m2'), b: again('mxfp6-e2m3') },
};

const [token, channel] = ['int8-token', 'int8-channel-f32s'];

export const int8: LinearRecipe = {
  doc: 'INT8, one scale a row of each operand',
  forward: { a: { format: token }, b: { format: channel } },
  gradInput: { a: again(token), b: again(channel) },
  gradWeight: { a: again(token), b: again(token) },
};
