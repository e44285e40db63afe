// SPDX-License-Identifier: Apache-2.0
// Sends one message: node send.mjs '{"transport": {…}, "message": {…}}';
// prints what the server answered.
import nodemailer from "nodemailer";

const { transport, message } = JSON.parse(process.argv[2]);
const info = await nodemailer.createTransport(transport).sendMail(message);
console.log(JSON.stringify({ response: info.response, accepted: info.accepted }));
