// The page that client_test.go opens: it runs one scenario, with client.js as a module or as the plain script that the
// page has loaded before.
import { connect } from '/client.js';
import { names, run } from '/client-scenarios.mjs';

window.connect = connect;
window.names = names();
window.run = (name, server, form) =>
  run(name, { connect: form === 'module' ? connect : window.atrium.connect, lab: location.origin, server }).then(() => '', (error) => error.stack);
