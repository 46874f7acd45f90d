// An OPC UA client of another stack that uses a station as a line would. Prints one JSON object of what it saw.
// usage: node station.mjs '{"url", "certificate", "key", "pki", "uri", "user", "password", "jobs", "policy"}'
import pkg from "node-opcua-client";
import certificates from "node-opcua-certificate-manager";

const {
  AttributeIds,
  ClientMonitoredItem,
  ClientSubscription,
  DataType,
  MessageSecurityMode,
  OPCUAClient,
  SecurityPolicy,
  TimestampsToReturn,
  UserTokenType,
  Variant,
  VariantArrayType,
  constructEventFilter,
  ofType,
  resolveNodeId,
} = pkg;

const options = JSON.parse(process.argv[2]);
const vision = "ns=4;s=VisionSystem";
const upper = `${vision}.VisionStateMachine`;
const lower = `${upper}.AutomaticModeStateMachine`;
const recipes = `${vision}.RecipeManagement`;
const results = `${vision}.ResultManagement`;
const machinery = "ns=4;s=MachineryResults";

async function opened(extra = {}) {
  const manager = new certificates.OPCUACertificateManager({
    rootFolder: options.pki, automaticallyAcceptUnknownCertificate: true,
  });
  await manager.initialize();
  const client = OPCUAClient.create({
    applicationName: "line", applicationUri: options.uri, endpointMustExist: false,
    certificateFile: options.certificate, privateKeyFile: options.key, clientCertificateManager: manager,
    securityMode: MessageSecurityMode.SignAndEncrypt,
    securityPolicy: SecurityPolicy[options.policy ?? "Basic256Sha256"],
    connectionStrategy: { maxRetry: 0, initialDelay: 100 }, requestedSessionTimeout: 60000, ...extra,
  });
  try {
    await client.connect(options.url);
  } catch (error) {
    await client.disconnect();
    throw error;
  }
  return client;
}

const login = { type: UserTokenType.UserName, userName: options.user, password: options.password };

async function refusal(token, extra = {}) {
  let client;
  try {
    client = await opened(extra);
    const session = await client.createSession(token);
    await session.close();
    return "accepted";
  } catch (error) {
    return error.message;
  } finally {
    await client?.disconnect();
  }
}

function variant(dataType, value, isArray = false) {
  const arrayType = isArray ? VariantArrayType.Array : VariantArrayType.Scalar;
  return new Variant({ dataType, arrayType, value });
}

async function called(session, object, name, inputs = []) {
  const result = await session.call({
    objectId: object, methodId: `${object}.${name}`, inputArguments: inputs,
  });
  return { status: result.statusCode.name, outputs: (result.outputArguments ?? []).map((one) => one.value),
    types: (result.outputArguments ?? []).map((one) => DataType[one.dataType]) };
}

async function main() {
  if (options.refusals) {
    const wrong = { ...login, password: "this is not the one" };
    return { password: await refusal(wrong), anonymous: await refusal({ type: UserTokenType.Anonymous }),
      none: await refusal(login, { securityMode: MessageSecurityMode.None, securityPolicy: SecurityPolicy.None }) };
  }
  if (options.untrusted) return { untrusted: await refusal(login) };
  const seen = {}, client = await opened();
  const session = await client.createSession(login);
  const built = (number, fields) => session.constructExtensionObject(resolveNodeId(`ns=2;i=${number}`), fields);
  const structure = async (number, fields) => variant(DataType.ExtensionObject, await built(number, fields));
  const value = async (id) => (await session.read({ nodeId: id, attributeId: AttributeIds.Value })).value.value;
  const state = async () => [(await value(`${upper}.CurrentState`))?.text, (await value(`${lower}.CurrentState`))?.text];
  const cause = [variant(DataType.Int32, 7), variant(DataType.String, "test")];

  seen.namespaces = await session.readNamespaceArray();
  seen.states = [await state()];
  seen.errors = [];
  const step = async (object, name, inputs) => {
    const done = await called(session, object, name, inputs);
    seen.errors.push([name, done.status, done.outputs.at(-1)]);
    seen.states.push(await state());
    return done;
  };
  if (seen.states[0][0] === "Operational") await step(upper, "Reset", cause);
  await step(upper, "Halt", cause);
  await step(lower, "Stop", cause); // refused by the state
  await step(upper, "Reset", cause);
  await step(upper, "SelectModeAutomatic");
  const empty = await structure(3013, { id: "" });
  const unknown = await step(recipes, "PrepareRecipe", [await structure(3002, { id: "none" }), empty]);
  seen.unknown = unknown.outputs.at(-1);
  const prepared = await step(recipes, "PrepareRecipe", [await structure(3002, { id: options.recipe }), empty]);
  seen.prepared = { id: prepared.outputs[0].id, hash: prepared.outputs[0].hash?.toString("hex") };

  const subscription = ClientSubscription.create(session, {
    requestedPublishingInterval: 50, requestedLifetimeCount: 600, requestedMaxKeepAliveCount: 20,
    maxNotificationsPerPublish: 0, publishingEnabled: true, priority: 1,
  });
  const fields = ["ResultId", "ResultState", "IsPartial", "IsSimulated", "CreationTime", "InternalRecipeId",
    "InternalConfigurationId", "JobId", "PartId", "MeasId", "ExternalRecipeId", "ProcessingTimes", "ResultContent"];
  const paths = ["EventType", "EventId", "Time", "Message", "Severity", "SourceName",
    ...fields.map((one) => `2:${one}`)];
  const filter = constructEventFilter(paths, ofType("ns=2;i=1024"));
  const events = [], kinds = {};
  let waiting = () => {};
  const item = ClientMonitoredItem.create(subscription,
    { nodeId: vision, attributeId: AttributeIds.EventNotifier },
    { samplingInterval: 0, discardOldest: true, queueSize: 2000, filter }, TimestampsToReturn.Both);
  item.on("changed", (values) => {
    const row = Object.fromEntries(paths.map((path, i) => [path.replace("2:", ""), values[i]]));
    if (!seen.types) seen.types = Object.fromEntries(Object.entries(row).map(([k, v]) => [k, DataType[v.dataType]]));
    const content = row.ResultContent.value.map((one) => one.value);
    events.push({ id: row.ResultId.value.id, part: row.PartId.value.id, job: row.JobId.value.id,
      recipe: row.InternalRecipeId.value.id, content });
    waiting();
  });
  const all = ClientMonitoredItem.create(subscription,
    { nodeId: "i=2253", attributeId: AttributeIds.EventNotifier },
    { samplingInterval: 0, discardOldest: true, queueSize: 9000, filter: constructEventFilter(["EventType"]) },
    TimestampsToReturn.Both);
  all.on("changed", ([kind]) => { kinds[kind.value.value] = (kinds[kind.value.value] ?? 0) + 1; });
  await new Promise((resolve) => { let n = 0; for (const one of [item, all]) one.on("initialized", () => ++n === 2 && resolve()); });

  const nobody = await structure(3003, { id: "" });
  seen.jobs = [];
  for (let i = 0; i < options.jobs; i++) {
    const part = i % 10 === 3 ? `nok-${i}` : i % 50 === 7 ? `nd-${i}` : `part-${i}`;
    const inputs = [await structure(3015, { id: `m-${i}` }), await structure(3004, { id: part }),
      await structure(3002, { id: i % 2 ? options.recipe : "" }), nobody,
      variant(DataType.Variant, [], true)];
    for (;;) {
      const started = await called(session, lower, "StartSingleJob", inputs);
      if (started.status === "Good" && started.outputs[1] === 0) {
        seen.jobs.push({ part, job: started.outputs[0].id });
        break;
      }
      const [, now] = await state();
      if (started.status !== "Good" || now === "Initialized") throw new Error(`StartSingleJob: ${JSON.stringify(started)}`);
      await new Promise((resolve) => setTimeout(resolve, 2)); // SingleExecution: not ready yet
    }
  }
  const limit = Date.now() + 60000;
  while (events.length < options.jobs && Date.now() < limit) {
    await Promise.race([new Promise((resolve) => { waiting = resolve; }), new Promise((r) => setTimeout(r, 500))]);
  }
  seen.events = events;

  seen.polled = [];
  for (let start = 0, isComplete = false; !isComplete; ) {
    const page = await called(session, results, "GetResultListFiltered", [variant(DataType.Int32, 0),
      await structure(3015, { id: "" }), await structure(3004, { id: "" }), await structure(3002, { id: "" }), empty,
      await structure(3008, { id: "" }), await structure(3008, { id: "" }), nobody, await structure(3016, { id: "" }),
      variant(DataType.UInt32, 200), variant(DataType.UInt32, start), variant(DataType.Int32, 0)]);
    const found = page.outputs[3] ?? [];
    seen.polled.push(...found.map((one) => ({ id: one.resultId.id, part: one.partId.id, state: one.resultState })));
    seen.listError = page.outputs[4];
    start += found.length;
    isComplete = page.outputs[0] || !found.length;
    await called(session, results, "ReleaseResultHandle", [variant(DataType.UInt32, page.outputs[2])]);
  }
  const last = events.at(-1);
  const one = await called(session, results, "GetResultById",
    [await structure(3021, { id: last.id }), variant(DataType.Int32, 0)]);
  seen.one = { id: one.outputs[1].resultId.id, part: one.outputs[1].partId.id, error: one.outputs[2] };
  const parts = await called(session, results, "GetResultComponentsById",
    [await structure(3021, { id: last.id }), variant(DataType.Int32, 0)]);
  seen.components = parts.types;

  const pending = async () => (await called(session, machinery, "GetResultIdListFiltered", [
    variant(DataType.ExtensionObject, null), variant(DataType.ExtensionObject, [], true),
    variant(DataType.UInt32, 1000), variant(DataType.Int32, 0)])).outputs[1] ?? [];
  seen.pendingBefore = (await pending()).length;
  const ids = [...events.map((event) => event.id), "no-such-result"];
  const taken = await called(session, machinery, "AcknowledgeResults", [variant(DataType.String, ids, true)]);
  seen.acknowledged = { each: [...taken.outputs[0]], error: taken.outputs[1] };
  seen.pendingAfter = (await pending()).length;

  const tags = ["Ready", "Busy", "Done", "Ok", "Nok", "NotDecidable", "Error", "ErrorCode", "Number", "PartId",
    "MeasId", "ResultId", "Score", "Threshold", "Reason", "NumCells", "MissedTriggers", "Heartbeat", "PlcAlive"];
  const readTags = async () => {
    const read = await session.read(tags.map((tag) => ({ nodeId: `ns=4;s=Tags.${tag}`, attributeId: AttributeIds.Value })));
    return Object.fromEntries(tags.map((tag, i) => [tag, read[i].value.value]));
  };
  const write = (tag, dataType, written) => session.write({ nodeId: `ns=4;s=Tags.${tag}`,
    attributeId: AttributeIds.Value, value: { value: { dataType, value: written } } });
  const before = await readTags();
  seen.writes = [await write("TriggerPartId", DataType.String, "nok-tag"), await write("Trigger", DataType.Boolean, true),
    await write("PlcHeartbeat", DataType.UInt32, 1), await write("Ok", DataType.Boolean, true)].map((one) => one.name);
  let after = before;
  for (const end = Date.now() + 20000; after.Done === before.Done && Date.now() < end; ) after = await readTags();
  seen.tags = { before, after, ack: await value("ns=4;s=Tags.TriggerAck") };
  await write("Trigger", DataType.Boolean, false);
  const method = await session.call({ objectId: "ns=4;s=Tags.Methods", methodId: "ns=4;s=Tags.Methods.Acknowledge",
    inputArguments: [variant(DataType.String, after.ResultId)] });
  seen.tags.acknowledged = method.outputArguments[0].value;

  seen.end = (await step(upper, "Halt", cause)).outputs;
  await new Promise((resolve) => setTimeout(resolve, 300));
  seen.kinds = kinds;
  await subscription.terminate();
  await session.close();
  await client.disconnect();
  return seen;
}

main().then((seen) => process.stdout.write(`${JSON.stringify(seen)}\n`, () => process.exit(0)),
  (error) => { console.error(error); process.exit(1); });
