"use strict";

const { document: description, scheme } = document.getElementById("docs").dataset;

// Swagger UI has a dark dress of its own, which it puts on where the root has this class.
const dark = matchMedia("(prefers-color-scheme: dark)");
const dress = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", dress);
dress();

const reference = SwaggerUIBundle({
  url: description,
  dom_id: "#docs",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  filter: true,
  tryItOutEnabled: true,
  validatorUrl: null,
});

// The key stays in this page's memory: a reload forgets it.
document.getElementById("credential")?.addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  const key = document.getElementById("key").value.trim();
  const said = document.getElementById("said");
  if (key === "") {
    reference.authActions.logout([scheme]);
    said.textContent = "";
    return;
  }
  reference.preauthorizeApiKey(scheme, key);
  said.textContent = "Requests carry it until you reload.";
});
