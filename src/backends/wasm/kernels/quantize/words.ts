// Words of the argument block of quantizeRows and quantizeAmax; quantizer.ts and quantizer-plan.ts have the same list,
// and the engine's op quantize has its first 30.

export const wSource = 0;
export const wDtype = 1;
export const wRows = 2;
export const wCols = 3;
export const wBits = 4;
export const wIsFloat = 5;
export const wMantissaBits = 6;
export const wBias = 7;
export const wLast = 8; // largest magnitude code, or largest code of integers
export const wLowest = 9; // smallest code of integers
export const wTileRows = 10;
export const wTileCols = 11;
export const wScaleFormat = 12;
export const wRule = 13;
export const wEmax = 14;
export const wEvenBits = 15;
export const wInverseMax = 16;
export const wDivisor = 17; // of block maxima; a factor under some libraries' rules
export const wTensorScale = 18; // of steps; their divisor under the rule of compressed-tensors
export const wUnit = 19; // fixed-point unit of integers under e8m0 scales
export const wClip = 20;
export const wZeroKind = 21; // 0 none, 1 integer, 2 float
export const wCodes = 22;
export const wRowBytes = 23;
export const wScales = 24;
export const wZeroPoints = 25;
export const wScratch = 26;
export const wScratchBytes = 27; // of one thread
export const wStatus = 28; // one i32 a thread
export const wFixedAmax = 29; // float bits of the amax of the whole tensor for a tensor scale, or −1
// quantizeRowsSelecting only
export const wSearch = 30; // 1: the rule `mse`
export const wChoice = 31; // four-over-six: its measure, or 0
export const wTensorAmax = 32; // for a choice
export const wMultiplier = 33; // fl(1536 / tensorAmax), for a choice
