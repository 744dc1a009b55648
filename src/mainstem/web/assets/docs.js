"use strict";

const reference = SwaggerUIBundle({
  url: "/v2/openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  filter: true,
  tryItOutEnabled: true,
  validatorUrl: null,
});

// The key stays in this page's memory: a reload forgets it.
document.getElementById("credential").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  const key = document.getElementById("key").value.trim();
  const said = document.getElementById("said");
  if (key === "") {
    reference.authActions.logout(["apiKey"]);
    said.textContent = "";
    return;
  }
  reference.preauthorizeApiKey("apiKey", key);
  said.textContent = "Requests carry it until you reload.";
});
