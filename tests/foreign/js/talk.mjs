// Drives the npm `ollama` client: `node talk.mjs TASK` prints one JSON document.
// WB_URL, WB_TOKEN and WB_MODEL say where and what; nothing of the client is changed.
import { Ollama } from 'ollama'

const { WB_URL, WB_TOKEN, WB_MODEL } = process.env
const client = new Ollama({ host: WB_URL, headers: { Authorization: `Bearer ${WB_TOKEN}` } })
const messages = [{ role: 'user', content: 'hi there' }]
const options = { num_predict: 8, seed: 3 }
const request = { model: WB_MODEL, messages, options }

async function streamed() {
  const pieces = []
  for await (const part of await client.chat({ ...request, stream: true })) {
    pieces.push(part.message.content)
  }
  const whole = await client.chat(request)
  return { pieces, whole: whole.message.content, reason: whole.done_reason }
}

async function broken() {
  const pieces = []
  try {
    for await (const part of await client.chat({ ...request, stream: true })) {
      pieces.push(part.message.content)
    }
  } catch (error) {
    return { pieces, error: error.message }
  }
  return { pieces, error: null }
}

async function aborted() {
  const pieces = []
  try {
    for await (const part of await client.chat({ ...request, stream: true })) {
      pieces.push(part.message.content)
      client.abort()
    }
  } catch (error) {
    return { pieces, error: error.name }
  }
  return { pieces, error: null }
}

const tasks = {
  list: async () => (await client.list()).models.map((model) => model.name),
  show: async () => (await client.show({ model: WB_MODEL })).capabilities,
  generate: async () => await client.generate({ model: WB_MODEL, prompt: 'Once', options }),
  embed: async () => (await client.embed({ model: WB_MODEL, input: ['a b', 'c'] })).embeddings,
  unload: async () => {
    await client.generate({ model: WB_MODEL, prompt: '', keep_alive: '10m' })
    const before = (await client.ps()).models.map((model) => model.name)
    await client.generate({ model: WB_MODEL, prompt: '', keep_alive: 0 })
    return [before, (await client.ps()).models.map((model) => model.name)]
  },
  missing: async () => {
    try {
      await client.chat({ ...request, model: 'rant' })
    } catch (error) {
      return { status: error.status_code, error: error.message }
    }
    return null
  },
  streamed,
  broken,
  aborted,
}

console.log(JSON.stringify(await tasks[process.argv[2]]()))
