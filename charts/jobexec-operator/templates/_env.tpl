{{/* The environment of `jobexec operator`; docs/cli.md explains the option behind each variable. */}}
{{- define "jobexec.env" -}}
- name: WATCH_NAMESPACES
  value: {{ include "jobexec.namespaces" . | fromJsonArray | join "," | quote }}
{{- with .Values.storeSelector }}
- name: STORE_SELECTOR
  value: {{ . | quote }}
{{- end }}
{{- with .Values.egress.allow }}
- name: ALLOW_ADDRESSES
  value: {{ join "," . | quote }}
{{- end }}
{{- if .Values.leases.enabled }}
- name: LEASE_NAMESPACE
  value: {{ .Release.Namespace }}
- name: LEASE_GROUP
  value: {{ .Values.leases.group | default (include "jobexec.fullname" .) | quote }}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- end }}
- name: LOG_FORMAT
  value: {{ .Values.log.format }}
{{- with .Values.log.filter }}
- name: RUST_LOG
  value: {{ . | quote }}
{{- end }}
- name: STORE_BUDGET
  value: {{ .Values.budgets.stores | quote }}
- name: POLICY_BUDGET
  value: {{ .Values.budgets.policies | quote }}
- name: EXECUTION_BUDGET
  value: {{ .Values.budgets.executions | quote }}
- name: METRICS
  value: {{ .Values.metrics.access }}
- name: PROBE_ADDRESS
  value: 0.0.0.0:8081
- name: MAX_CONNECTIONS
  value: {{ .Values.api.maxConnections | quote }}
{{- if .Values.api.enabled }}
- name: HTTPS_ADDRESS
  value: 0.0.0.0:8443
{{- with .Values.api.tokenAudiences }}
- name: TOKEN_AUDIENCE
  value: {{ join "," . | quote }}
{{- end }}
- name: AUTH_CACHE_TTL
  value: {{ .Values.api.authCacheTtl }}
- name: REQUEST_TIMEOUT
  value: {{ .Values.api.requestTimeout }}
- name: MAX_REQUESTS
  value: {{ .Values.api.maxRequests | quote }}
{{- if include "jobexec.tlsSecretName" . }}
- name: TLS_CERT_FILE
  value: /tls/tls.crt
- name: TLS_KEY_FILE
  value: /tls/tls.key
{{- end }}
{{- else }}
- name: HTTPS_ADDRESS
  value: "off"
{{- end }}
{{- end -}}
