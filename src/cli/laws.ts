// subbyte laws: scaling laws for low precision. Without a command below it, the laws that there are.

import { laws } from '../laws/registry.ts';
import type { CommandDefinition } from './command.ts';
import compare from './laws-compare.ts';
import fit from './laws-fit.ts';
import plan from './laws-plan.ts';
import predict from './laws-predict.ts';
import { renderTable } from './table.ts';

const definition: CommandDefinition = {
  name: 'laws',
  summary: 'scaling laws: predict a loss, fit runs, compare laws, plan a training',
  commands: [predict, fit, compare, plan],
  examples: [
    'subbyte laws',
    'subbyte laws predict qat --n 1B --d 100B --group 32',
    "subbyte laws fit outer-exponent runs.csv --where 'fwd=BF16' --bootstrap 400",
    'subbyte laws plan --flop 1e22 --hardware blackwell --plot regions.svg',
  ],
  async run(session) {
    const entries = laws.map(({ id, summary, published, schemes, build }) => {
      const law = build({});
      return {
        id,
        summary,
        predicts: law.predicts,
        formula: law.formula,
        needs: ['n', 'd', ...law.needs, ...schemes],
        parameters: law.parameters.map(({ name, meaning, lower, upper }) => ({ name, meaning, lower, upper })),
        coefficients: Object.entries(published).map(([name, c]) => ({ name, source: c.source, note: c.note })),
      };
    });
    session.print(
      renderTable(
        [{ title: 'law' }, { title: 'what it predicts' }, { title: 'formula' }, { title: 'coefficients' }],
        entries.map((e) => [e.id, e.summary, e.formula, e.coefficients.map((c) => c.name).join(', ')]),
      ),
    );
    session.print('N non-embedding parameters, D training tokens: raw counts. Losses and gaps in nats a token.');
    session.result({ laws: entries });
  },
};

export default definition;
