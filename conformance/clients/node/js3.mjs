import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";
import { answer } from "./answer.mjs";

const sts = new STSClient({});
await answer(async () => (await sts.send(new GetCallerIdentityCommand({}))).Arn);
