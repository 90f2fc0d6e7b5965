// How threads divide work: contiguous shares of a range, in units.

/** First item of `thread`'s share of `count` items, shares differing by at most one unit of `unit` items. */
// @ts-ignore: decorator
@inline
export function shareStart(count: i32, unit: i32, thread: i32, threads: i32): i32 {
  const units = <i64>((count + unit - 1) / unit);
  const start = <i32>((units * <i64>thread) / <i64>threads) * unit;
  return min(start, count);
}

/** End of `thread`'s share: the start of the next. */
// @ts-ignore: decorator
@inline
export function shareEnd(count: i32, unit: i32, thread: i32, threads: i32): i32 {
  return shareStart(count, unit, thread + 1, threads);
}
