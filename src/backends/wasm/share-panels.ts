// Integer products that read one operand a share its panels: the integers are decoded and laid out once.
//
// A node of an op of this backend's own makes them before the first of the products, which get its output as a third input.

import type { Graph, Node, Value } from '../../graph/graph.ts';
import { liveNodes } from '../../graph/live-nodes.ts';
import { integerProductPlan, productOf } from '../product.ts';
import { integerPanelsOp, type PanelPlan, panelPlan } from './matmul-integer.ts';

/** The panels that a node's product takes of its a; undefined where it takes none or makes them in a loop. */
function panelsOf(node: Node): PanelPlan | undefined {
  if (node.op.name !== 'matmul') return undefined;
  const p = productOf(node);
  const plan = integerProductPlan(node, p);
  return plan && p.batch === 1 ? panelPlan(p, plan) : undefined;
}

/** The graph with these nodes; the graph itself where nothing is shared. Results are the same bits. */
export function sharePanels(graph: Graph): Graph {
  const nodes = liveNodes(graph);
  const plans = new Map(nodes.map((node) => [node, panelsOf(node)]));
  const keyOf = (node: Node, plan: PanelPlan) => `${node.inputs[0].id} ${JSON.stringify(plan)}`;
  const readers = new Map<string, number>();
  for (const [node, plan] of plans) if (plan) readers.set(keyOf(node, plan), (readers.get(keyOf(node, plan)) ?? 0) + 1);
  let next = Math.max(graph.values.length, ...nodes.flatMap(({ outputs }) => outputs.map(({ id }) => id + 1)));
  const known = new Map<string, Value>();
  const changed: Node[] = [];
  for (const node of nodes) {
    // a state that a product reads may change before the next one
    if (node.op.updates) known.clear();
    const plan = plans.get(node);
    const key = plan && keyOf(node, plan);
    if (!plan || !key || readers.get(key) === 1) {
      changed.push(node);
      continue;
    }
    let panels = known.get(key);
    if (!panels) {
      const [a] = node.inputs;
      const [type] = integerPanelsOp.infer([a.type], plan);
      panels = { id: next++, type, graph, name: `panels of ${a.name}` };
      const op = integerPanelsOp as unknown as Node['op'];
      changed.push({ ...node, id: panels.id, op, inputs: [a], outputs: [panels], attributes: { ...plan } });
      known.set(key, panels);
    }
    changed.push({ ...node, inputs: [...node.inputs, panels] });
  }
  return changed.length > nodes.length ? { ...graph, nodes: changed } : graph;
}
