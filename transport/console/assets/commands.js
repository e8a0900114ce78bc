// A request as commands. examples.go makes the same of the examples; a test compares them.

const shell = (word) => (/^[A-Za-z0-9_./:=,@+-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`);

const kebab = (name) => name.replace(/(.)([A-Z][a-z]+)/g, "$1-$2").replace(/([a-z0-9])([A-Z])/g, "$1-$2").toLowerCase();

// curl gives the call for curl 7.88 or later. The secret is in the environment, as AWS's tools have it.
export function curl({ target, body, origin, region, temporary }) {
  const token = temporary ? ` \\\n    -H "X-Amz-Security-Token: $AWS_SESSION_TOKEN"` : "";
  return `curl --aws-sigv4 aws:amz:${shell(region)}:kms --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \\\n` +
    `    -H 'Content-Type: application/x-amz-json-1.1' -H 'X-Amz-Target: ${target}'${token} \\\n` +
    `    -d ${shell(body)} ${origin}/`;
}

function option(member, value) {
  const name = "--" + kebab(member.name);
  if (value === true) return name;
  if (value === false) return "--no-" + kebab(member.name);
  if (typeof value === "number") return `${name} ${value}`;
  if (typeof value !== "string") return `${name} ${shell(JSON.stringify(value))}`;
  return name + (value.startsWith("-") ? "=" : " ") + shell(value);
}

// cli gives the call for the AWS CLI, version 2.
export function cli({ operation, members, request, origin, region }) {
  let command = `aws kms ${kebab(operation)} --endpoint-url ${shell(origin)} --region ${shell(region)}`;
  for (const m of members) if (m.name in request) command += " \\\n    " + option(m, request[m.name]);
  return command;
}
