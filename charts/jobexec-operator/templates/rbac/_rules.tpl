{{/* The permissions of the operator in the namespaces that it watches. */}}
{{- define "jobexec.rules" -}}
- apiGroups: [jobexec.dev]
  resources: [executionstores, executionpolicies, jobexecutions]
  verbs: [list, watch]
# The objects of executions, which the operator creates, labels and deletes (spec.executionObjects of an ExecutionStore).
- apiGroups: [jobexec.dev]
  resources: [jobexecutions]
  verbs: [get, create, patch, delete]
- apiGroups: [jobexec.dev]
  resources: [executionstores/status, executionpolicies/status, jobexecutions/status]
  verbs: [patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
# By name only; the operator never lists or watches Secrets.
- apiGroups: [""]
  resources: [secrets]
  {{- with .Values.rbac.secretNames }}
  resourceNames:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  verbs: [get]
{{- end -}}

{{/* Additional permissions for stores with spec.workloads: to list Jobs and Pods. */}}
{{- define "jobexec.workloadRules" -}}
- apiGroups: [batch]
  resources: [jobs]
  verbs: [list]
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
{{- end -}}

{{/* Grants rules to the operator in the namespaces that it watches. Parameters: root, rules (a template), suffix (of the name). */}}
{{- define "jobexec.grant" -}}
{{- $root := .root }}
{{- $own := printf "%s%s" (include "jobexec.fullname" $root) .suffix }}
{{- $unique := printf "%s%s" (include "jobexec.uniqueName" $root) .suffix }}
{{- $rules := include .rules $root }}
{{- if eq $root.Values.rbac.scope "Cluster" }}
{{- include "jobexec.roleAndBinding" (dict "root" $root "prefix" "Cluster" "name" $unique "rules" $rules) }}
{{- else }}
{{- range $namespace := include "jobexec.namespaces" $root | fromJsonArray }}
{{- $name := ternary $own $unique (eq $namespace $root.Release.Namespace) }}
{{- include "jobexec.roleAndBinding" (dict "root" $root "prefix" "" "name" $name "namespace" $namespace "rules" $rules) }}
{{- end }}
{{- end }}
{{- end -}}

{{/* A Role, or with the prefix Cluster a ClusterRole, and a binding of the operator to it. */}}
{{- define "jobexec.roleAndBinding" }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .prefix }}Role
metadata:
  name: {{ .name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "jobexec.labels" .root | nindent 4 }}
rules:
  {{- .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .prefix }}RoleBinding
metadata:
  name: {{ .name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "jobexec.labels" .root | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ .prefix }}Role
  name: {{ .name }}
subjects:
  {{- include "jobexec.subject" .root | nindent 2 }}
{{- end }}
