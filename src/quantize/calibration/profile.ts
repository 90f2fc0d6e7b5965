// Where the time of a run goes, phase by phase.

/** Seconds by phase, in the order in which phases first appeared. */
export interface Profile {
  readonly seconds: ReadonlyMap<string, number>;
  add(phase: string, seconds: number): void;
  /** Runs `action` and counts its time. */
  time<T>(phase: string, action: () => Promise<T>): Promise<T>;
}

export function openProfile(): Profile {
  const seconds = new Map<string, number>();
  const add = (phase: string, s: number) => void seconds.set(phase, (seconds.get(phase) ?? 0) + s);
  return {
    seconds,
    add,
    async time(phase, action) {
      const start = performance.now();
      try {
        return await action();
      } finally {
        add(phase, (performance.now() - start) / 1000);
      }
    },
  };
}
