// Static ranges on the calibration pass: one for each input of linear layers, found just before its layers are rounded.
//
// All layers of a site read the same values, so they share the range (and, where their formats agree, the scale); so do
// the experts of a layer, which one product reads together. An expert that no token reached has the range of the others,
// and an input that was never anything but zero the range [−1, 1]; both are reported. The layers behind see the input as
// the fixed scale rounds it. Scales stand in the blocks' reports, from which a killed run takes them again.

import type { FixedScale } from '../../formats/fixed-scale.ts';
import { formatName } from '../../formats/registry.ts';
import type { ActivationOf } from '../../models/block.ts';
import type { DecoderConfig } from '../../models/config.ts';
import { runtimeName } from '../../models/runtime-layers.ts';
import { layerActivation } from '../../models/runtime-scheme.ts';
import { blockSites, type Site } from '../../models/stages.ts';
import type { Activation } from '../../nn/linear.ts';
import type { RangeRule } from '../ranges/input-range.ts';
import type { SiteNeeds, SiteRecord } from './site-observer.ts';
import { type PassContext, runStage, type StagePass } from './stage-pass.ts';

/** The rule of a layer's range, by its name in graphs; undefined: the input is not rounded with a fixed scale. */
export type RangeOf = (layer: string) => RangeRule | undefined;

/** The range of one layer's input; JSON data. */
export interface InputReport extends FixedScale {
  /** Name of the layer in graphs: experts are one. */
  readonly layer: string;
  readonly format: string;
  readonly clip: string;
  readonly min: number;
  readonly max: number;
  /** Largest magnitude that the text showed. */
  readonly amax: number;
}

export interface StaticInputs {
  /** How inputs are rounded as far as is known. */
  readonly activation: ActivationOf;
  /** What has to be collected at a site; undefined: nothing. */
  needs(site: Site): SiteNeeds | undefined;
  /** Fixes the scales of a site. `notes` takes what a user should know. */
  fix(site: Site, records: readonly SiteRecord[], notes: string[]): InputReport[];
  /** Takes over what an earlier run had fixed. */
  restore(reports: readonly InputReport[]): void;
}

export function staticInputs(config: DecoderConfig, rangeOf: RangeOf): StaticInputs {
  const fixed = new Map<string, FixedScale>();
  const namesOf = ({ layers }: Site) => [...new Set(layers.map((layer) => runtimeName(config, `${layer}.weight`)))];
  const restore = (reports: readonly InputReport[]) => {
    for (const { layer, scale, zeroPoint } of reports)
      fixed.set(layer, { scale, ...(zeroPoint !== undefined && { zeroPoint }) });
  };
  return {
    activation(layer): Activation | undefined {
      const activation = layerActivation(config.runtime, layer);
      const scale = fixed.get(layer);
      return activation && scale ? { ...activation, fixed: scale } : activation;
    },
    needs(site) {
      const rules = namesOf(site).flatMap((name) => rangeOf(name) ?? []);
      if (rules.length === 0) return undefined;
      return { range: rules.some(({ clip }) => clip !== 'minmax') ? 'histogram' : 'extrema' };
    },
    fix(site, records, notes) {
      const reports = namesOf(site).flatMap((layer): InputReport[] => {
        const rule = rangeOf(layer);
        const chosen = rule && records[0]?.range?.choose(rule);
        if (!rule || !chosen) return [];
        const { min, max, amax } = chosen;
        return [{ layer, format: formatName(rule.format), clip: rule.clip, min, max, amax, ...chosen.fixed }];
      });
      restore(reports);
      if (reports.length > 0) notes.push(...remarks(site, records, reports));
      return reports;
    },
    restore,
  };
}

function remarks(site: Site, records: readonly SiteRecord[], reports: readonly InputReport[]): string[] {
  const unseen = site.experts > 0 ? records.flatMap(({ tokens }, e) => (tokens === 0 ? [e] : [])) : [];
  const names = reports.map(({ layer }) => layer).join(', ');
  return [
    ...(unseen.length > 0 ? [`experts ${unseen.join(', ')} saw no token: they have the others' range (${names})`] : []),
    ...(reports[0].amax === 0 ? [`the input was zero throughout, its range is a guess: -1 to 1 (${names})`] : []),
  ];
}

/** Whether the ranges of a stage need a run of their own: what a method collects there is the input as it is rounded. */
export function rangesApart(sites: readonly Site[], inputs: StaticInputs, needs: StagePass['needs']): boolean {
  return sites.some((site) => inputs.needs(site)) && sites.some((site) => needs?.(site));
}

/** Runs a stage as runStage does, and fixes the ranges of its sites first. */
export async function runFixing(
  context: PassContext,
  pass: StagePass,
  inputs: StaticInputs,
  reported: { inputs: InputReport[]; notes: string[] },
): Promise<Map<string, SiteRecord[]>> {
  const { activation } = inputs;
  const sites = blockSites(context.config, pass.layer).filter(({ stage }) => stage === pass.stage);
  if (!sites.some((site) => inputs.needs(site))) return runStage(context, { ...pass, activation });
  const apart = rangesApart(sites, inputs, pass.needs);
  const ranges: StagePass = { ...pass, activation, needs: inputs.needs };
  const found = await runStage(context, apart ? { ...ranges, statisticsOnly: true, float: undefined } : ranges);
  for (const site of sites) reported.inputs.push(...inputs.fix(site, found.get(site.name) ?? [], reported.notes));
  return apart ? runStage(context, { ...pass, activation }) : found;
}

/** The layers' inputs with the scales that reports hold. */
export function fixedActivations(config: DecoderConfig, reports: readonly InputReport[]): Map<string, Activation> {
  const inputs = staticInputs(config, () => undefined);
  inputs.restore(reports);
  return new Map(reports.map(({ layer }) => [layer, inputs.activation(layer) as Activation]));
}
