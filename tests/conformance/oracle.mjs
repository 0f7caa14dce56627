// A question a line in, an answer a line out. A question is a Simulation of @cloud-copilot/iam-simulate. An answer has its
// verdict and the condition keys of the request that it did not look at, or says why there is none.
import { createInterface } from 'node:readline'
import { runSimulation } from '@cloud-copilot/iam-simulate'

async function answer(question) {
  try {
    const result = await runSimulation(JSON.parse(question), {})
    return result.resultType === 'single'
      ? { verdict: result.overallResult, ignored: result.result.ignoredContextKeys }
      : { refused: JSON.stringify(result.errors ?? result.resultType) }
  } catch (thrown) {
    return { refused: String(thrown) }
  }
}

for await (const question of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await answer(question))}\n`)
}
