// Codes of data errors that kernels report during a run; messages are in data-error.ts.
//
// Shared by the hosts, the AssemblyScript kernels and the WGSL ones, so this file holds plain numeric constants only.

export const embeddingIdError = 1;
export const cacheRangeError = 2;
export const targetError = 3;
export const expertIndexError = 4;
export const nonFiniteError = 5;
export const stepError = 20;

/** No error: a run whose updates holdUpdates stopped. Takes the place of a code, so it comes after all checks of data. */
export const updatesHeld = 90;
