import AWS from "aws-sdk";
import { answer } from "./answer.mjs";

// This SDK does not know AWS_ENDPOINT_URL_STS.
const sts = new AWS.STS({ endpoint: process.env.CONFORMANCE_STS });
await answer(async () => (await sts.getCallerIdentity().promise()).Arn);
