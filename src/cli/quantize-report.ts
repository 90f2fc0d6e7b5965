// What a method did to the layers of a model, for tables and for machines.

import type { Solution } from './quantize-solve.ts';
import type { MethodReport, QuantizeEntry } from './quantize-types.ts';
import type { Session } from './session.ts';
import { renderTable } from './table.ts';

export function methodReport({ reports, profile }: Solution): MethodReport {
  const inputs = reports.flatMap((block) => block.inputs ?? []);
  return {
    layers: reports.flatMap((block) => block.layers),
    ...(inputs.length > 0 && { inputs }),
    notes: [...new Set(reports.flatMap((block) => block.notes))],
    profileSeconds: Object.fromEntries(profile.seconds),
  };
}

const mostLayers = 5;
const decibels = (error: number) => (error > 0 ? -10 * Math.log10(error) : Infinity);

/** The layers with the largest error, what was unusual, and where the time went. */
export function printMethodReport(session: Session, { format, method }: QuantizeEntry, withProfile: boolean): void {
  if (!method) return;
  const known = method.layers.filter((layer) => layer.relativeError !== undefined);
  const worst = [...known].sort((a, b) => (b.relativeError ?? 0) - (a.relativeError ?? 0)).slice(0, mostLayers);
  if (worst.length > 0) {
    const right = { align: 'right' as const };
    const rows = worst.map((layer) => [
      layer.name,
      layer.format,
      String(layer.tokens),
      decibels(layer.relativeError ?? 0).toFixed(1),
      decibels(layer.plainError ?? 0).toFixed(1),
    ]);
    const columns = [{ title: 'layer' }, { title: 'format' }, { title: 'tokens', ...right }];
    session.print(`${format}: layers with the largest output error on the calibration text, as signal to noise in dB`);
    session.print(renderTable([...columns, { title: 'solved', ...right }, { title: 'rounded', ...right }], rows));
  }
  for (const note of noteLines(method)) session.warn(`  note         ${format}: ${note}`);
  if (withProfile) session.print(`${format}: ${profileLine(method.profileSeconds)}`);
}

/** Notes of layers, each with the layers that it is true of. */
function noteLines({ layers, notes }: MethodReport): string[] {
  const byNote = new Map<string, string[]>();
  for (const { name, notes: own } of layers)
    for (const note of own) byNote.set(note, [...(byNote.get(note) ?? []), name.replace(/\.weight$/, '')]);
  const named = [...byNote].map(([note, names]) =>
    names.length > 3
      ? `${note} (${names.slice(0, 2).join(', ')} and ${names.length - 2} more)`
      : `${note} (${names.join(', ')})`,
  );
  return [...notes, ...named];
}

/** `forward 61 %, statistics 24 %, solve 12 %, … of 43.1 s` */
function profileLine(seconds: Record<string, number>): string {
  const total = Object.values(seconds).reduce((a, b) => a + b, 0);
  const shares = Object.entries(seconds)
    .sort(([, a], [, b]) => b - a)
    .map(([phase, s]) => `${phase} ${((100 * s) / Math.max(total, 1e-9)).toFixed(1)} %`);
  return `${shares.join(', ')} of ${total.toFixed(1)} s`;
}
