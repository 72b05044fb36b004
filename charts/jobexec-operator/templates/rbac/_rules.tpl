{{/* What the operator may do where it watches. */}}
{{- define "jobexec.rules" -}}
- apiGroups: [jobexec.dev]
  resources: [executionstores, executionpolicies, jobexecutions]
  verbs: [list, watch]
# The objects of executions, which the mirror makes, labels and deletes (spec.mirror of an ExecutionStore).
- apiGroups: [jobexec.dev]
  resources: [jobexecutions]
  verbs: [get, create, patch, delete]
- apiGroups: [jobexec.dev]
  resources: [executionstores/status, executionpolicies/status, jobexecutions/status]
  verbs: [patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
# By name only, never listed or watched.
- apiGroups: [""]
  resources: [secrets]
  {{- with .Values.rbac.secretNames }}
  resourceNames:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  verbs: [get]
{{- end -}}

{{/* What stores with spec.workloads need beside it: to see which Jobs and Pods there are. */}}
{{- define "jobexec.workloadRules" -}}
- apiGroups: [batch]
  resources: [jobs]
  verbs: [list]
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
{{- end -}}

{{/* Grants rules to the operator where it watches. In: root, rules (a template), suffix (of the name). */}}
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

{{/* A Role, or with the prefix Cluster a ClusterRole, and the operator bound to it. */}}
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
