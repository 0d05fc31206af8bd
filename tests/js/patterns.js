// Runs every pattern with the official JavaScript SDK against a served hub, and prints what came of each as one line of
// JSON. Usage: node patterns.js ADDRESS
"use strict";

const {
  EntityInstanceId, NoOpLogger, OrchestrationStatus, TaskEntity, TaskHubGrpcClient, TaskHubGrpcWorker, whenAll, whenAny,
} = require("@microsoft/durabletask-js");

/** Seconds after which what does not happen counts as a failure. */
const HANG = 60;

class Account extends TaskEntity {
  initializeState() {
    return { balance: 0, operations: 0 };
  }

  add(amount) {
    this.state = { balance: this.state.balance + amount, operations: this.state.operations + 1 };
    return this.state.balance;
  }

  get() {
    return this.state.balance;
  }
}

const account = (key) => new EntityInstanceId("Account", key);

async function double(_, number) {
  return number * 2;
}

async function fail(_, text) {
  throw new Error(text);
}

async function* chain(ctx, number) {
  for (let step = 0; step < 3; step++) {
    number = yield ctx.callActivity(double, number);
  }
  return number;
}

async function* fanOut(ctx, numbers) {
  const results = yield whenAll(numbers.map((number) => ctx.callActivity(double, number)));
  return results.reduce((sum, result) => sum + result, 0);
}

async function* children(ctx, numbers) {
  return yield whenAll(numbers.map((number) => ctx.callSubOrchestrator(chain, number)));
}

async function* monitor(ctx, seen) {
  const watched = account("watched");
  const balance = yield ctx.entities.callEntity(watched, "get");
  ctx.setCustomStatus(`looked ${seen + 1} times`);
  if (balance >= 3) {
    return seen + 1;
  }
  yield ctx.createTimer(0.02);
  ctx.entities.signalEntity(watched, "add", 1);
  ctx.continueAsNew(seen + 1, true);
}

async function* approval(ctx, patience) {
  const answer = ctx.waitForExternalEvent("approval");
  const tooLate = ctx.createTimer(patience);
  const first = yield whenAny([answer, tooLate]);
  return first === answer ? answer.getResult() : "too late";
}

async function* transfer(ctx, order) {
  const [source, target] = [account(order.from), account(order.to)];
  const lock = yield ctx.entities.lockEntities(source, target);
  const balance = yield ctx.entities.callEntity(source, "get");
  const enough = balance >= order.amount;
  if (enough) {
    yield ctx.entities.callEntity(source, "add", -order.amount);
    // Whoever looked in between would see money that is nowhere.
    yield ctx.callActivity(double, 1);
    yield ctx.entities.callEntity(target, "add", order.amount);
  }
  lock.release();
  return enough;
}

async function* asksAnActivityThatFails(ctx, text) {
  yield ctx.callActivity(fail, text);
}

async function result(client, id) {
  const state = await client.waitForOrchestrationCompletion(id, true, HANG);
  if (state.runtimeStatus !== OrchestrationStatus.COMPLETED) {
    throw new Error(`${id}: ${JSON.stringify(state)}`);
  }
  return JSON.parse(state.serializedOutput);
}

async function until(condition) {
  const deadline = Date.now() + HANG * 1000;
  while (!(await condition())) {
    if (Date.now() > deadline) {
      throw new Error(`does not happen: ${condition}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function patterns(client) {
  const run = async (orchestrator, input) =>
    result(client, await client.scheduleNewOrchestration(orchestrator, input));
  // An entity that has been signalled, and has done nothing yet, has no state.
  const balance = async (key) => {
    const found = await client.getEntity(account(key));
    return found?.includesState ? found.state : undefined;
  };
  const seen = {};

  seen.chain = await run(chain, 5);
  seen.fanOut = await run(fanOut, [...Array(100).keys()]);
  seen.children = await run(children, [1, 2, 3]);

  const monitored = await client.scheduleNewOrchestration(monitor, 0);
  seen.monitor = await result(client, monitored);
  seen.monitorStatus = JSON.parse((await client.getOrchestrationState(monitored)).serializedCustomStatus);

  const asked = await client.scheduleNewOrchestration(approval, HANG * 2);
  await client.waitForOrchestrationStart(asked, false, HANG);
  await client.raiseOrchestrationEvent(asked, "approval", "yes");
  seen.approved = await result(client, asked);
  seen.tooLate = await run(approval, 0.05);

  await Promise.all([...Array(200).keys()].map((amount) => client.signalEntity(account("sum"), "add", amount)));
  await until(async () => (await balance("sum"))?.operations === 200);
  seen.aggregator = await balance("sum");

  await client.signalEntity(account("a"), "add", 50);
  await client.signalEntity(account("b"), "add", 50);
  const orders = [{ from: "a", to: "b", amount: 7 }, { from: "b", to: "a", amount: 5 }];
  const all = Array(10).fill(orders).flat();
  const moved = await Promise.all(all.map((order) => run(transfer, order)));
  seen.moved = all.reduce((sum, order, at) => sum + (moved[at] ? (order.to === "a" ? 1 : -1) * order.amount : 0), 0);
  seen.accounts = [(await balance("a")).balance, (await balance("b")).balance];

  const failed = await client.scheduleNewOrchestration(asksAnActivityThatFails, "the reason");
  const state = await client.waitForOrchestrationCompletion(failed, true, HANG);
  seen.failure = [OrchestrationStatus[state.runtimeStatus], state.failureDetails?.message];

  seen.history = (await client.getOrchestrationHistory(asked)).map((event) => event.type);
  return seen;
}

async function main() {
  const hostAddress = process.argv[2];
  const logger = new NoOpLogger();
  const worker = new TaskHubGrpcWorker({ hostAddress, logger });
  const client = new TaskHubGrpcClient({ hostAddress, logger });
  for (const orchestrator of [chain, fanOut, children, monitor, approval, transfer, asksAnActivityThatFails]) {
    worker.addOrchestrator(orchestrator);
  }
  worker.addActivity(double);
  worker.addActivity(fail);
  worker.addNamedEntity("Account", () => new Account());
  await worker.start();
  try {
    console.log(JSON.stringify(await patterns(client)));
  } finally {
    await worker.stop();
    await client.stop();
  }
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
