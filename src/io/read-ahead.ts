// One item ahead: while the consumer works on an item, the next is being made.

export interface ReadAhead<T> {
  /** The next item, or undefined after the last. */
  next(): Promise<T | undefined>;
  /** Asks for the item that `next` will give, which throws its error if there is one. */
  prepare(): void;
  /** Ends the source; resolves when nothing of it is under way any more. */
  close(): Promise<void>;
}

/**
 * Besides the item that the consumer has, at most one exists or is being made.
 *
 * @example
 * for (let tensor = await ahead.next(); tensor; tensor = await ahead.next()) {
 *   const written = write(tensor);
 *   ahead.prepare();
 *   await written;
 * }
 */
export function readAhead<T>(source: AsyncGenerator<T, void>): ReadAhead<T> {
  let pending: Promise<IteratorResult<T, void>> | undefined;
  return {
    next: async () => {
      const { done, value } = await (pending ?? source.next());
      pending = undefined;
      return done ? undefined : (value as T);
    },
    prepare: () => {
      pending ??= source.next();
      // `next` throws it; until then nobody handles it
      pending.catch(() => undefined);
    },
    close: async () => {
      await source.return().catch(() => undefined);
    },
  };
}
