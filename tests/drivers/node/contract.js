// What a driver in Node needs of the contract (`tests/drivers/README.md`): the command line, the
// commands on standard input and the events on standard output.

import { createInterface } from 'node:readline'

export function emit(event, fields = {}) {
  process.stdout.write(JSON.stringify({ event, ...fields }) + '\n')
}

/**
 * Calls `onCommand` for each line of standard input, and `onEnd` after the last or the one to close.
 * A line that is no command is the driver's end.
 */
export function readCommands(onCommand, onEnd) {
  const lines = createInterface({ input: process.stdin })
  let closed = false
  lines.on('line', line => {
    if (closed || line.trim() === '') return
    let command
    try {
      command = JSON.parse(line)
    } catch (error) {
      closed = true
      fail(new Error(`not a command: ${line}: ${error.message}`), () => null)
      return
    }
    if (command.do === 'close') {
      lines.close()
    } else {
      onCommand(command)
    }
  })
  lines.on('close', () => {
    closed = true
    process.stdin.destroy()
    onEnd()
  })
}

/** As `readCommands`, each command after the one before is done; resolves after the last. */
export function obeyInOrder(onCommand) {
  return new Promise((resolve, reject) => {
    let last = Promise.resolve()
    const after = step => {
      last = last.then(step)
      last.catch(reject)
    }
    readCommands(
      command => after(() => onCommand(command)),
      () => after(resolve),
    )
  })
}

/** The custom partitioner: the sum of the key's bytes, modulo the number of partitions. */
export function partitionOf(key, partitions) {
  return Buffer.from(key ?? '').reduce((sum, byte) => sum + byte, 0) % partitions
}

/** Runs the verb of the command line; whatever goes wrong is printed, and the exit code is 1. */
export async function main(verbs, errorName) {
  const [verb, options = '{}'] = process.argv.slice(2)
  try {
    const given = Object.entries(JSON.parse(options)).filter(([, value]) => value !== null)
    await verbs[verb](Object.fromEntries(given))
  } catch (error) {
    fail(error, errorName)
  }
}

export function fail(error, errorName) {
  console.error(error)
  const line = JSON.stringify({ event: 'error', message: error.message, code: errorName(error) })
  // Connections may be open and retries pending; nothing of them is worth waiting for.
  process.stdout.write(line + '\n', () => process.exit(1))
}
