// Progress with rate and remaining time. On a terminal one line is rewritten at most ten times a second; elsewhere a
// line is printed when a piece of work has run for a second and every ten seconds from then on.

export interface Progress {
  /** Adds work done; `detail` names what is being worked on. */
  advance(amount: number, detail?: string): void;
  /** Ends the line; returns the seconds taken. */
  done(): number;
}

/** `1.2 M`, three significant digits, for rates and totals. */
export function humanCount(n: number): string {
  const units = ['', 'k', 'M', 'G', 'T'];
  let i = 0;
  let v = n;
  while (v >= 999.5 && i < units.length - 1) {
    v /= 1000;
    i++;
  }
  const digits = v >= 99.95 || Number.isInteger(v) ? 0 : v >= 9.995 ? 1 : 2;
  return `${v.toFixed(digits)}${units[i] ? ` ${units[i]}` : ''}`;
}

/** `1 MB` = 10^6 bytes, as disks and downloads count. */
export const humanBytes = (n: number): string => `${humanCount(n)}${n < 999.5 ? ' ' : ''}B`;

/** `0:07`, `12:03`, `1:02:03`. */
export function humanTime(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  const parts = [Math.floor(s / 60) % 60, s % 60].map((p, i) => (i === 0 ? String(p) : String(p).padStart(2, '0')));
  return s >= 3600 ? `${Math.floor(s / 3600)}:${parts[0].padStart(2, '0')}:${parts[1]}` : parts.join(':');
}

function bar(fraction: number, width = 24): string {
  const full = Math.round(Math.min(1, fraction) * width);
  return '█'.repeat(full) + '░'.repeat(width - full);
}

export function openProgress(
  label: string,
  total: number,
  unit: string,
  stream: NodeJS.WriteStream | 'silent',
): Progress {
  const start = performance.now();
  let amount = 0;
  let lastShown = start;
  let shownDetail = '';
  const elapsed = () => (performance.now() - start) / 1000;
  const text = (seconds: number) => {
    const rate = seconds > 0 ? amount / seconds : 0;
    const left = rate > 0 ? humanTime((total - amount) / rate) : '–';
    const size = (n: number) => (unit === 'B' ? humanBytes(n) : `${humanCount(n)} ${unit}`);
    return `${bar(total > 0 ? amount / total : 1)}  ${size(amount)} of ${size(total)}  ${size(rate)}/s  ETA ${left}  ${shownDetail}`;
  };
  const tty = stream !== 'silent' && Boolean(stream.isTTY);
  return {
    advance(more, detail) {
      amount += more;
      if (detail !== undefined) shownDetail = detail;
      const now = performance.now();
      if (stream === 'silent' || now - lastShown < (tty ? 100 : lastShown === start ? 1000 : 10_000)) return;
      lastShown = now;
      const line = `  ${label.padEnd(12)} ${text(elapsed())}`;
      if (tty) stream.write(`\r\x1b[2K${line.slice(0, (stream.columns ?? 120) - 1)}`);
      else stream.write(`${line}\n`);
    },
    done() {
      if (tty && lastShown !== start) (stream as NodeJS.WriteStream).write('\r\x1b[2K');
      return elapsed();
    },
  };
}
