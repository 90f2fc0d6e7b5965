// Training recipes by name, as configs choose them.

import type { LinearRecipe } from './linear-recipe.ts';
import { plain } from './linear-recipe.ts';
import { bf16 } from './systems/bf16.ts';
import { dgeOcc } from './systems/dge-occ.ts';
import { fp8Tensor, fp8Tiles, int8, mxfp6, mxfp8 } from './systems/eight-bit.ts';
import { halo0, halo1, halo2 } from './systems/halo.ts';
import { fp4AllTheWay, fp4FineTuning, nvidia } from './systems/nvfp4.ts';
import {
  backwardPma,
  backwardQuest,
  backwardRtn,
  backwardSr,
  forwardQuest,
  forwardRtn,
  forwardSr,
  quartet,
  quartetNearest,
  quartetSignsLast,
  questExact,
} from './systems/quartet.ts';
import { backwardEden, quartet2, quartet2Short } from './systems/quartet2.ts';

export const recipes = {
  f32: plain,
  bf16,
  'fp8-tensor': fp8Tensor,
  'fp8-tiles': fp8Tiles,
  mxfp8,
  mxfp6,
  int8,
  quartet,
  'quartet-nearest': quartetNearest,
  'quartet-signs-last': quartetSignsLast,
  quest: forwardQuest,
  'quest-exact': questExact,
  'forward-rtn': forwardRtn,
  'forward-sr': forwardSr,
  'backward-sr': backwardSr,
  'backward-rtn': backwardRtn,
  'backward-pma': backwardPma,
  'backward-quest': backwardQuest,
  'fp4-all-the-way': fp4AllTheWay,
  'fp4-fine-tuning': fp4FineTuning,
  'nvfp4-nvidia': nvidia,
  'quartet-2': quartet2,
  'quartet-2-h32': quartet2Short,
  'backward-eden': backwardEden,
  'fp4-dge-occ': dgeOcc,
  'halo-0': halo0,
  'halo-1': halo1,
  'halo-2': halo2,
} as const satisfies Record<string, LinearRecipe>;

export type RecipeName = keyof typeof recipes;

export const recipeNames = Object.keys(recipes) as [RecipeName, ...RecipeName[]];
