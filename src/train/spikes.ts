// Is a loss out of line with those before it?
//
// A loss spikes when it lies above the median of the last 64 by more than half a nat and by more than 8 deviations, the
// deviation being 1.4826 times the median distance from the median (which is σ for normal noise, and does not grow with
// the spikes themselves). Fewer than 16 losses say nothing. The rule is this project's; it reports, and changes nothing.

const longest = 64;
const fewest = 16;

/** The losses that the next one is compared with: those before, newest last. */
export const remembered = (losses: readonly number[]): readonly number[] => losses.slice(-longest);

export interface Spike {
  readonly loss: number;
  readonly median: number;
}

/** The spike that `loss` is after `before`, or undefined. */
export function findSpike(before: readonly number[], loss: number): Spike | undefined {
  const recent = remembered(before);
  if (recent.length < fewest) return undefined;
  const middle = median(recent);
  const deviation = 1.4826 * median(recent.map((x) => Math.abs(x - middle)));
  return loss - middle > Math.max(0.5, 8 * deviation) ? { loss, median: middle } : undefined;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length / 2;
  return (sorted[Math.ceil(half) - 1] + sorted[Math.floor(half)]) / 2;
}
